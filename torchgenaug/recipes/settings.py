"""Settings of one family, beyond the options that all families share: ``--set name=value``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torchgenaug.errors import ConfigurationError

Value: TypeAlias = bool | int | float | str

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class Setting:
    """One setting of a family.

    Attributes:
        default: its value unless the user gives another of the same type.
        text: one line: what it does.
        choices: the values it can have; empty: any of its type.
        low: smallest number.
        high: largest number.
    """

    default: Value
    text: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    @property
    def constraint(self) -> str:
        """What its values must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words = _KINDS[type(self.default)]
        if self.low == -math.inf and self.high == math.inf:
            return words
        return f"{words} from {self.low:g} to {self.high:g}" if self.high < math.inf else f"{words} ≥ {self.low:g}"

    def accepts(self, value: object) -> bool:
        """Whether `value` is of its type and within its limits."""
        kind = type(self.default)
        if isinstance(value, bool) or isinstance(self.default, bool | str):
            return type(value) is kind and (not self.choices or value in self.choices)
        number = isinstance(value, int) or (kind is float and isinstance(value, float))
        return number and math.isfinite(value) and self.low <= value <= self.high  # type: ignore[arg-type,operator]


def checked_settings(
    family: str, known: Mapping[str, Setting], given: Mapping[str, Value]
) -> dict[str, bool | int | float | str]:
    """All settings of a family: those given, and the defaults of the others.

    Args:
        family: its name, for errors.
        known: its settings by name.
        given: what the user chose.

    Raises:
        ConfigurationError: a setting that the family does not have, or a value that it cannot take.
    """
    for name, value in given.items():
        setting = _known(family, known, name)
        if not setting.accepts(value):
            raise ConfigurationError(
                f"`{name}` must be {setting.constraint} for {family}, got {value!r}. For example: --set "
                f"{name}={text_of(setting.default)}, its default."
            )
    # A whole number given for a setting of type float is that float: a resumed run must not differ by it.
    chosen = {name: given.get(name, setting.default) for name, setting in known.items()}
    return {name: float(value) if type(known[name].default) is float else value for name, value in chosen.items()}


def parse_settings(family: str, known: Mapping[str, Setting], texts: Sequence[str]) -> dict[str, Value]:
    """The settings that a command line gave as ``name=value``.

    Args:
        family: its name, for errors.
        known: its settings by name.
        texts: one ``name=value`` each; booleans are ``true`` or ``false``.

    Raises:
        ConfigurationError: no ``name=value``, a name given twice, an unknown one, or a value of another type.
    """
    parsed: dict[str, Value] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name in parsed:
            found = f"{name!r} twice" if equals else repr(text)
            raise ConfigurationError(f"`--set` must be name=value, each name once, got {found}. For example: --set a=1")
        parsed[name] = _value(value, _known(family, known, name).default)
    checked_settings(family, known, parsed)
    return parsed


def _known(family: str, known: Mapping[str, Setting], name: str) -> Setting:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"`torchgenaug fit list {family}` shows them."
    able = f"one of the settings of {family} ({', '.join(known)})" if known else f"left out: {family} has no settings"
    raise ConfigurationError(f"`--set` must be {able}, got {name!r}. {hint}")


def _value(text: str, default: Value) -> Value:
    """`text` in the type of `default`, or as it is, which the check then refuses by name."""
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text.lower(), text)
    if isinstance(default, str):
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def text_of(value: Value) -> str:
    """A value as a command line has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
