"""The data card of an export: ``README.md`` with the head that the Hugging Face Hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchgenaug.contracts import SyntheticSource, trained_on_of
from torchgenaug.shards import ShardSource
from torchgenaug.shards.card import about_images, card_head, classes_text, put_card, read_card, trained_on_text
from torchgenaug.shards.evaluated import find_section, with_section


def write_card(out: Path, source: SyntheticSource, settings: Mapping[str, Any], remarks: list[str]) -> None:
    """Writes the card; one that a user changed stays as it is."""
    text = card_text(source, settings, remarks)
    if isinstance(source, ShardSource):  # whole: what was found of its images holds for these
        text = with_section(
            text, find_section(read_card(source.path) or "", about_images(source.fingerprint, len(source)))
        )
    put_card(out, text)


def card_text(source: SyntheticSource, settings: Mapping[str, Any], remarks: list[str]) -> str:
    """The card as Markdown with a YAML head; no names of patients enter it."""
    listed = "\n".join(f"- {remark}" for remark in remarks)
    fields = "\n".join(f"| `{name}` | {spec} |" for name, spec in source.fields.items())
    return f"""{card_head(len(source))}
{len(source):,} samples, generated and not acquired; exported as `{settings["format"]}`.

| Field | As it was generated |
|---|---|
{fields}
{classes_text(trained_on_of(source), source.fields)}
## Origin

- Sequence: `{source.fingerprint}` (fingerprint)
- Trained on: {trained_on_text(trained_on_of(source), "")}

## Files

{listed}
- `export.json` states how the files were written.

## Intended use

Training of models together with real images, and tests of software.

## Licence

Unknown. State it in the head: what the training images allow decides.

## Warnings

- These images are synthetic. No finding in them is that of a patient.
- Do not validate or test a model on them.
"""
