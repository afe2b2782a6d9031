"""Masks and labels in .npz files that hold one sample each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.listing import some
from torchgenaug.recipes.data.readers.arrays import (
    IMAGE_MEMBERS,
    MASK_MEMBERS,
    choose_member,
    load_array,
    member_shapes,
)
from torchgenaug.recipes.data.records import FileRecord


def with_members(records: Sequence[FileRecord]) -> tuple[list[FileRecord], tuple[str, ...]]:
    """The records with what else their .npz files hold: a mask of the image's size, or the number of a class.

    Raises:
        ConfigurationError: a label that is no whole number, named.
    """
    found, unused = [], set()
    masks: set[str] = set()
    labels: set[str] = set()
    for record in records:
        path = record.image[0]
        if not (isinstance(path, Path) and path.suffix.lower() == ".npz"):
            found.append(record)
            continue
        shapes = member_shapes(path)
        image = choose_member(path, IMAGE_MEMBERS)
        mask, label = _mask_of(shapes, image), _label_of(shapes, image)
        if mask is not None and not record.mask:
            record = replace(record, mask=(path,))
            masks.add(mask)
        if label is not None and record.label is None:
            record = replace(record, label=_whole(path, label))
            labels.add(label)
        unused |= shapes.keys() - {image, mask, label}
        found.append(record)
    texts = [("Masks are the arrays", masks), ("Classes are the numbers", labels), ("Not used: the arrays", unused)]
    return found, tuple(f"{text} {some(sorted(names))} of the .npz files." for text, names in texts if names)


def _mask_of(shapes: Mapping[str, tuple[int, ...]], image: str) -> str | None:
    """The array of a mask: named like one, with the spatial axes of the image."""
    spatial = [size for size in shapes[image] if size > 4]
    by_lower = {name.lower(): name for name in shapes if name != image}
    for name in MASK_MEMBERS:
        if name in by_lower:
            shape = shapes[by_lower[name]]
            return by_lower[name] if shape and [size for size in shape if size > 4] == spatial else None
    return None


def _label_of(shapes: Mapping[str, tuple[int, ...]], image: str) -> str | None:
    """The number of the class."""
    names = [name for name in shapes if name != image and name.lower() in (*MASK_MEMBERS, "class", "target")]
    return next((name for name in names if shapes[name] in ((), (1,))), None)


def _whole(path: Path, member: str) -> int:
    value = load_array(path, member).reshape(-1)[0]
    if value != int(value):
        raise ConfigurationError(
            f"The label must be a whole number, got {value!r} as {member} at {path}. Number the classes: 0, 1, 2, …"
        )
    return int(value)
