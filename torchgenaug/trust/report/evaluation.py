"""`Evaluation`: what `evaluate` found, and the files that it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torchgenaug.local_paths import make_folder
from torchgenaug.metrics.measurement import Measurement
from torchgenaug.pseudonyms import anonymous
from torchgenaug.trust.report.page import write_page
from torchgenaug.trust.report.picture_data import Pictures
from torchgenaug.trust.report.verdict import Finding, Verdict
from torchgenaug.whole_files import write_whole

FORMAT = 1
"""Version of ``report.json``."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The verdict on a set of synthetic images, and what it rests on.

    Attributes:
        findings: worst first; see `torchgenaug.trust.report.verdict.judge`.
        measures: name with features, such as ``"FID[radiomics-like]"``, → result.
        copies: JSON-ready: ``found``, ``expected_by_chance``, ``calibrated_on``, ``pairs`` and more.
        duplicates: JSON-ready: ``share`` of the images that repeat another, ``expected`` and ``pairs``.
        leaks: JSON-ready: ``leaks`` and ``not_compared``.
        counts: how many ``synthetic``, ``real`` and ``held_out`` images were compared.
        notes: what a reader should know about how this was done, a sentence each.
        pictures: what the page draws.
        label_intensities: JSON-ready, one for each class of the masks; see `LabelIntensity`.
        trilemma: ``quality``, ``coverage``, ``samples_per_s``; see `torchgenaug.trust.report.evaluate.trilemma`.
    """

    findings: tuple[Finding, ...]
    measures: Mapping[str, Measurement]
    copies: Mapping[str, Any]
    duplicates: Mapping[str, Any]
    leaks: Mapping[str, Any]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    pictures: Pictures
    label_intensities: tuple[Mapping[str, Any], ...] = ()
    trilemma: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """``"use"``, ``"caution"``, ``"cannot judge"`` or ``"do not use"``."""
        return self.findings[0].verdict

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, in words, the most serious first."""
        return tuple(finding.reason for finding in self.findings)

    def anonymised(self) -> Evaluation:
        """The same with pseudonyms for the samples and patients whose names overlap; see `torchgenaug.pseudonyms`."""
        found = [
            each if each["kind"].endswith("content") else {**each, "seen_as": anonymous(each["seen_as"])}
            for each in self.leaks["leaks"]
        ]
        return replace(self, leaks={**self.leaks, "leaks": found})

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values; what ``report.json`` holds."""
        real, synthetic = self.pictures.profiles
        return {
            "format": FORMAT,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "findings": [asdict(finding) for finding in self.findings],
            "measures": {name: result.to_json() for name, result in self.measures.items()},
            "copies": dict(self.copies),
            "duplicates": dict(self.duplicates),
            "leaks": dict(self.leaks),
            "label_intensities": [dict(each) for each in self.label_intensities],
            "trilemma": dict(self.trilemma),
            "counts": dict(self.counts),
            "profiles": {"real": asdict(real), "synthetic": asdict(synthetic)},
            "notes": list(self.notes),
        }

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes ``report.json`` and ``report.html`` into a folder, which is created; returns the path of the page.

        Raises:
            MissingExtraError: Pillow or matplotlib is not installed; ``report.json`` is written before.
        """
        out = make_folder(Path(folder), "folder")
        report = self.to_json()
        text = json.dumps(report, indent=1, allow_nan=False)
        write_whole(out / "report.json", f"{text}\n".encode())
        return write_page(report, self.pictures, out / "report.html")

    def __str__(self) -> str:
        lines = [f"{self.verdict.capitalize()}.", *self.reasons, *map(str, self.measures.values()), *self.notes]
        return "\n".join(lines)
