"""`as_volumes`: arrays of three axes as volumes, however few slices they have, because the user says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torchgenaug.recipes.data.parts import ArrayRow, Part
from torchgenaug.recipes.data.readers.arrays import IMAGE_MEMBERS, MASK_MEMBERS, choose_member, holds_several
from torchgenaug.recipes.data.records import FileRecord


def as_volumes(records: Sequence[FileRecord]) -> list[FileRecord]:
    """The records with their arrays read as volumes; files of other kinds state themselves what their axes are.

    Raises:
        ValueError: a file of several arrays of which none is an image by its name.
    """
    return [
        replace(
            record,
            image=tuple(_as_volume(part, IMAGE_MEMBERS) for part in record.image),
            mask=tuple(_as_volume(part, MASK_MEMBERS) for part in record.mask),
            source=tuple(_as_volume(part, IMAGE_MEMBERS) for part in record.source),
        )
        for record in records
    ]


def _as_volume(part: Part, names: tuple[str, ...]) -> Part:
    if isinstance(part, ArrayRow):
        return replace(part, is_volume=True)
    if not isinstance(part, Path):
        return part
    several = holds_several(part)
    if not several and part.suffix.lower() != ".npy":
        return part
    return ArrayRow(part, choose_member(part, names) if several else None, None, is_volume=True)
