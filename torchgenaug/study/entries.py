"""Types of the entries of a study file, compared with those of the dataclass that a table is read into."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from torchgenaug.errors import ConfigurationError

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def read_entries(values: Mapping[str, Any], kind: Any, place: str) -> dict[str, Any]:
    """The entries, lists as tuples.

    Args:
        values: of a TOML table.
        kind: a dataclass with an attribute for each.
        place: of the table, for messages.

    Raises:
        ConfigurationError: an entry of another type than the attribute.
    """
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for name, value in values.items():
        options = _options(hints[name])
        if not any(_fits(value, option) for option in options):
            expected = " or ".join(_described(option) for option in options if option is not types.NoneType)
            raise ConfigurationError(
                f"`{name}` in {place} must be {expected}, got {value!r}. Compare it with: torchgenaug study --example "
                "digits"
            )
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


def _options(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return typing.get_args(hint)
    return (hint,)


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(each, typing.get_args(hint)[0]) for each in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint in (bool, str) and isinstance(value, hint)


def _described(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a list, each {_NAMES[typing.get_args(hint)[0]]}"
    return _NAMES.get(hint, str(hint))
