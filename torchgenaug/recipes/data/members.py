"""Masks and labels in files of several arrays (.npz, HDF5, MATLAB) that hold one sample each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.files import unreadable
from torchgenaug.recipes.data.listing import some
from torchgenaug.recipes.data.naming import is_mask_word
from torchgenaug.recipes.data.parts import ArrayRow
from torchgenaug.recipes.data.readers.arrays import (
    IMAGE_MEMBERS,
    MASK_MEMBERS,
    choose_member,
    holds_several,
    load_array,
    member_shapes,
    plain_name,
)
from torchgenaug.recipes.data.records import FileRecord


def with_members(records: Sequence[FileRecord]) -> tuple[list[FileRecord], tuple[str, ...], tuple[str, ...]]:
    """The records with what else their files hold: a mask of the image's size, or the number of a class.

    Also the names of the classes, where they are not numbered from 0, and what a user should know.

    Raises:
        ConfigurationError: a label that is no whole number, named.
    """
    found, unused = [], set()
    masks: set[str] = set()
    labels: set[str] = set()
    for record in records:
        path = record.image[0]
        if not (isinstance(path, Path) and holds_several(path)):
            found.append(record)
            continue
        try:
            shapes = member_shapes(path)
            image = choose_member(path, IMAGE_MEMBERS)
        except Exception as error:
            raise unreadable(path, error) from error
        mask, label = _mask_of(shapes, image), _label_of(shapes, image)
        if mask is not None and not record.mask:
            record = replace(record, mask=(ArrayRow(path, mask, None),))
            masks.add(mask)
        if label is not None and record.label is None:
            record = replace(record, label=_whole(path, label))
            labels.add(label)
        unused |= shapes.keys() - {image, mask, label}
        found.append(record)
    texts = [("Masks are the arrays", masks), ("Classes are the numbers", labels), ("Not used: the arrays", unused)]
    numbers = sorted({record.label for record in found if record.label is not None})
    names: tuple[str, ...] = ()
    if labels and numbers[0] >= 0 and numbers != list(range(len(numbers))):
        names = tuple(map(str, numbers))
        found = [each if each.label is None else replace(each, label=numbers.index(each.label)) for each in found]
    return found, names, tuple(f"{text} {some(sorted(names))} of the files." for text, names in texts if names)


def _mask_of(shapes: Mapping[str, tuple[int, ...]], image: str) -> str | None:
    """The array of a mask: named like one, with the spatial axes of the image."""
    spatial = [size for size in shapes[image] if size > 4]
    by_name = {plain_name(name): name for name in shapes if name != image}
    named = [name for name in MASK_MEMBERS if name in by_name]
    named += sorted(name for name in by_name if is_mask_word(name) and name not in named)
    return next(
        (by_name[name] for name in named if [size for size in shapes[by_name[name]] if size > 4] == spatial), None
    )


def _label_of(shapes: Mapping[str, tuple[int, ...]], image: str) -> str | None:
    """The number of the class."""
    names = [name for name in shapes if name != image and plain_name(name) in (*MASK_MEMBERS, "class", "target")]
    return next((name for name in names if shapes[name] in ((), (1,), (1, 1))), None)


def _whole(path: Path, member: str) -> int:
    value = load_array(path, member).reshape(-1)[0]
    if value != int(value):
        raise ConfigurationError(
            f"The label must be a whole number, got {value!r} as {member} at {path}. Number the classes: 0, 1, 2, …"
        )
    return int(value)
