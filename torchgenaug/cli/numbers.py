"""Options that hold one number, or one per axis."""

from __future__ import annotations

import typer


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
