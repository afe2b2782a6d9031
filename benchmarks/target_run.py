"""Measures what the table of targets needs, and nothing else: ``python -m benchmarks --targets``.

Each part runs in a process of its own, so that a part that fails leaves the others their results, and none runs beside
what another imported. A part is kept as soon as it was measured.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.targets import SIZES, SMALL

PARTS: dict[str, tuple[str | None, ...]] = {
    "loader": ("over whole batches", "over 2 workers"),
    "mixing": ("tuple, 0 workers", "tuple, 2 workers"),
    "pool": ("training, full pool",),
    "generator": ("outside_the_network",),
    "pool_cost": (None,),
    "fit_step": (None,),
    "transforms": (None,),
    "reading": (SMALL, *(f"{size}, 0 workers" for size in SIZES[1:])),
    "scale": ("source",),
    "rendering": ("integrity", "render over synthesizer alone", "safety in a render"),
}
"""Benchmark → those of its parts (by a piece of their names) that targets speak of; None: the whole benchmark."""


def run() -> list[str]:
    """Measures all parts, one after another; which of them failed."""
    failed = []
    for name, parts in PARTS.items():
        for part in parts:
            began = time.monotonic()
            command = [sys.executable, "-m", "benchmarks", name, *(["--only", part] if part else [])]
            title = " ".join(command[3:])
            print(f"{time.strftime('%T')} {title} …", flush=True)
            if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
                failed.append(title)
            print(f"{time.strftime('%T')} {title}: {time.monotonic() - began:.0f} s", flush=True)
    return failed


def runs_of(documents: Mapping[str, Any]) -> dict[str, list[str]]:
    """Which run the rows of the table come from: day and commit → benchmarks and parts."""
    runs: dict[str, list[str]] = {}
    for question, wanted in PARTS.items():
        document = documents.get(question)
        for part in wanted if document else ():
            for entry in _measured(document, part):
                names = runs.setdefault(f"{entry['date'][:10]}, commit {entry['commit']}", [])
                names += [title for title in [f"{question}: {part}" if part else question] if title not in names]
    return runs


def _measured(document: Any, part: str | None) -> Iterable[Mapping[str, str]]:
    """Date and commit of a part: the document's, unless its parts have some of their own."""
    found = [entry for name, entry in document.get("parts", {}).items() if part is not None and part in name]
    return found or [document]
