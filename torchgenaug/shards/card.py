"""The data card of a shard folder: ``README.md`` with the head that the Hugging Face Hub reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torchgenaug.shards.evaluated import evaluation_section, find_section, with_section
from torchgenaug.shards.format import Manifest
from torchgenaug.shards.temporary import TemporaryFile

CARD_NAME = "README.md"
MARK = "<!-- Written by torchgenaug. Delete this line to keep your own changes. -->"
_MOST_BYTES = 1 << 20


def write_card(folder: Path, manifest: Manifest, filtered: str = "") -> bool:
    """Writes the card of a render; one that a user changed (without `MARK`) stays as it is.

    Names of patients and samples do not enter it, only how many they were.

    Args:
        folder: of the shards.
        manifest: of the render.
        filtered: a sentence on which samples a filter kept; empty: there was none.

    Returns:
        Whether it was written.
    """
    section = find_section(read_card(folder) or "", about_images(manifest.sequence, manifest.count))
    return put_card(folder, with_section(card_text(manifest, filtered), section))


def about_images(fingerprint: str, count: int) -> str:
    """What the section of a card on their evaluation states about images."""
    return f"{fingerprint}, {count} images"


def put_evaluation(folder: Path, report: Mapping[str, Any], about: str) -> bool:
    """Writes verdict and measures into the card of a folder, in place of those of an earlier evaluation.

    Args:
        folder: of shards or of a saved synthesizer.
        report: what ``report.json`` holds.
        about: see `about_images`.

    Returns:
        Whether it was written: there is a card, and it is not the user's own.
    """
    text = read_card(folder)
    return text is not None and put_card(folder, with_section(text, evaluation_section(report, about)))


def read_card(folder: Path) -> str | None:
    """The card of a folder; None where there is none, or one that is not ours."""
    path = folder / CARD_NAME
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return None
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text if MARK in text else None


def put_card(folder: Path, text: str) -> bool:
    """Writes a card whole, or leaves what is there.

    What stays: a card that a user changed or that this one may not replace, a link that leads nowhere, and what is no
    regular file or larger than any card.

    Returns:
        Whether it was written.
    """
    if os.path.lexists(folder / CARD_NAME) and read_card(folder) is None:
        return False
    temporary = TemporaryFile(folder)
    try:
        temporary.write(text.encode())
        temporary.commit(CARD_NAME)
    except PermissionError:  # another user's, where only the owner may replace a file
        return False
    finally:
        temporary.discard()
    return True


def card_text(manifest: Manifest, filtered: str = "") -> str:
    """The card as Markdown with a YAML head."""
    fields = "\n".join(
        f"| `{name}` | {field.spec.kind} | {field.spec.shape} | {str(field.spec.dtype).removeprefix('torch.')} | "
        f"{'' if field.spec.value_range is None else '{:g} to {:g}'.format(*field.spec.value_range)} |"
        for name, field in manifest.fields.items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items() if version)
    warnings = [
        "These images are synthetic. No finding in them is that of a patient.",
        "Do not validate or test a model on them.",
        "They were not evaluated when this card was written: `torchgenaug evaluate`.",
    ]
    if manifest.trained_on is None:
        warnings.append("Nobody knows what their generator was trained on: leaks cannot be found by name.")
    listed = "\n".join(f"- {warning}" for warning in warnings)
    return f"""{card_head(manifest.count)}
{manifest.count:,} samples, generated and not acquired. Read them with `torchgenaug.ShardSource`.

| Field | Kind | Shape | Dtype | Range |
|---|---|---|---|---|
{fields}
{classes_text(manifest.trained_on, manifest.fields)}
## Origin

- Generator: `{manifest.synthesizer}` (fingerprint), base seed {manifest.seed}, sequence `{manifest.sequence}`
- Trained on: {trained_on_text(manifest.trained_on)}
- Rendered with {versions}{f"{chr(10)}- {filtered}" if filtered else ""}

## Intended use

Training of models together with real images, and tests of software.

## Licence

Unknown. State it in the head: what the training images allow decides.

## Warnings

{listed}
"""


def classes_text(record: Any, fields: Collection[str]) -> str:
    """A line on what the numbers of ``label`` mean; empty where there is no such field, or no names."""
    names = record.get("class_names") if isinstance(record, Mapping) and "label" in fields else None
    if not isinstance(names, list | tuple) or not names:
        return ""
    listed = ", ".join(f"{number} {' '.join(str(name).split())}" for number, name in enumerate(names))
    return f"\nClasses of `label`: {listed}.\n"


def trained_on_text(record: Any, where: str = "manifest.json") -> str:
    """How many samples and patients a model was trained on, without their names.

    Args:
        record: ``trained_on``.
        where: the file that holds it; empty: none that travels with the card.
    """
    reference = f"see `trained_on` in {where}" if where else "not stated here"
    if record is None:
        return "unknown"
    if not isinstance(record, Mapping):
        return reference
    known = [key for key in ("samples", "patients") if isinstance(record.get(key), list | tuple)]
    counts = [f"{len(record[key])} {key}" for key in known]
    text = ", ".join(counts) or "data that are not counted"
    return f"{text}; {reference}" if where else text


def card_head(count: int) -> str:
    """The YAML head of a card, which the Hub reads, `MARK` and the title.

    Args:
        count: how many samples the card describes.
    """
    limits = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    category = next((name for limit, name in limits if count < limit), "n>1M")
    return f"""---
pretty_name: Synthetic images
license: unknown
tags:
- synthetic
- medical
- torchgenaug
size_categories:
- {category}
---
{MARK}

# Synthetic images
"""
