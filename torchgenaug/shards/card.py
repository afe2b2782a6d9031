"""The data card of a shard folder: ``README.md`` with the head that the Hugging Face Hub reads."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    return put_card(folder, card_text(manifest, filtered))


def put_card(folder: Path, text: str) -> bool:
    """Writes a card whole, or leaves what is there.

    What stays: a card that a user changed or that this one may not replace, a link that leads nowhere, and what is no
    regular file or larger than any card.

    Returns:
        Whether it was written.
    """
    path = folder / CARD_NAME
    try:
        status = path.stat()
        ours = stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_BYTES
        if not ours or MARK not in path.read_text(encoding="utf-8", errors="replace"):
            return False
    except FileNotFoundError:
        if path.is_symlink():
            return False
    except OSError:
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


def trained_on_text(record: Any) -> str:
    """How many samples and patients a model was trained on, without their names."""
    if record is None:
        return "unknown"
    if not isinstance(record, Mapping):
        return "see `trained_on` in manifest.json"
    known = [key for key in ("samples", "patients") if isinstance(record.get(key), list | tuple)]
    counts = [f"{len(record[key])} {key}" for key in known]
    return f"{', '.join(counts) or 'data that are not counted'}; see `trained_on` in manifest.json"


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
