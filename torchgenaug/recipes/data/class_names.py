"""`class_names`: the classes that the labels of a table are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.listing import some

_MAX_CLASSES = 64


def class_names(path: Path, labels: Sequence[str]) -> list[str]:
    """The distinct labels of a table in order: numbers by size, before words.

    Args:
        path: of the table, for errors.
        labels: of each image.

    Raises:
        ConfigurationError: one class only, more than 64, names that differ in capitals only, or -1 among the numbers
            from 0, which may stand for a class that is not known.
    """
    numbers = {name: int(name) for name in labels if name.removeprefix("-").isdecimal()}
    names = sorted(set(labels), key=lambda name: (name not in numbers, numbers.get(name, 0), name))
    by_case: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_case[name.casefold()].append(name)
    alike = next((group for group in by_case.values() if len(group) > 1), None)
    if alike:
        raise ConfigurationError(
            f"{path} must write a class in one way, got {' and '.join(map(repr, alike))}. Write them alike, or apart."
        )
    if len(names) < 2:
        raise ConfigurationError(
            f"{path} must name two classes at least, got only {names[0]!r}. Leave it out: --table none."
        )
    if len(numbers) == len(names) and {"-1", "0"} <= set(names) and min(numbers.values()) == -1:
        raise ConfigurationError(
            f"{path} must say what -1 stands for, got {list(labels).count('-1')} of {len(labels)} labels -1 among "
            "whole numbers from 0. It would be a class of its own. Write NA where the class is not known, or a word "
            "where it is a class."
        )
    if len(names) > _MAX_CLASSES:
        raise ConfigurationError(
            f"{path} must name at most {_MAX_CLASSES} classes, got {len(names)}: {some(names)}. A number that is "
            "measured is no class: group its values, or leave the table out: --table none."
        )
    return names


__all__ = ["class_names"]
