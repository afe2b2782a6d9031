"""Options that hold one number, or one per axis or class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from torchgenaug.recipes.data.training_data import TrainingData


def numbers(option: str, text: str | None) -> list[float] | float | None:
    """Numbers between commas (or x); one alone is a number."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.lower().replace("x", ",").split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"one number, or one per axis, such as 64,64,32; got {text!r}.", param_hint=option
        ) from None
    return values[0] if len(values) == 1 else values


def whole_numbers(option: str, text: str | None) -> list[int] | int | None:
    """Sizes of at least 8 between commas (or x); one alone is a number."""
    values = numbers(option, text)
    listed = values if isinstance(values, list) else [] if values is None else [values]
    if any(each < 8 or each != int(each) for each in listed):
        raise typer.BadParameter(f"whole numbers of at least 8, got {text!r}.", param_hint=option)
    return [int(each) for each in values] if isinstance(values, list) else None if values is None else int(values)


def class_limits(option: str, text: str, data: TrainingData) -> int | dict[int, int]:
    """A number of samples of each class, ``50``, or of single classes by name or number, ``cat=5,dog=20``."""
    names = {str(name): number for number, name in enumerate(data.class_names or range(data.num_classes or 0))}
    limits: dict[int, int] = {}
    try:
        if "=" not in text:
            return _at_least_one(text)
        for part in text.split(","):
            name, _, count = part.rpartition("=")
            number = names[name.strip()]
            if number in limits:
                raise ValueError
            limits[number] = _at_least_one(count)
    except KeyError as error:
        known = ", ".join(names) or "none: the data have no labels"
        raise typer.BadParameter(
            f"classes of the data, got {error.args[0]!r}; there are {known}.", param_hint=option
        ) from None
    except ValueError:
        raise typer.BadParameter(
            f"a number from 1, or one for each of some classes, such as cat=5,dog=20; got {text!r}.",
            param_hint=option,
        ) from None
    return limits


def _at_least_one(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count
