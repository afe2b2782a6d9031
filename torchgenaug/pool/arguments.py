"""Checks of the pool's arguments."""

from __future__ import annotations

import math
import operator

from torchgenaug.errors import ConfigurationError
from torchgenaug.pool.storage.window import Window
from torchgenaug.sequence.checks import MAX_ID

_LONGEST_S = 1e6


def checked_count(name: str, value: int, least: int = 1) -> int:
    """`value` as an int ≥ `least`; `ConfigurationError` if it is none."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < least:
        raise ConfigurationError(f"`{name}` must be an integer ≥ {least}, got {value!r}.")
    return number


def checked_number(name: str, value: float, low: float, high: float, what: str) -> float:
    """`value` as a float in [low, high]; `ConfigurationError` if it is none."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise ConfigurationError(f"`{name}` must be {what}, got {value!r}.")
    return number


def checked_timeout(timeout_s: float) -> float:
    """`timeout_s` as the waits of the operating system take it; `ConfigurationError` unless it is positive."""
    return min(checked_number("timeout_s", timeout_s, 1e-3, math.inf, "a positive number of seconds"), _LONGEST_S)


def checked_window(
    capacity: int, refresh: float, parts: int, batch_size: int, rank: tuple[int, int], *, ahead: bool
) -> Window:
    """The window that a pool's arguments describe; `ConfigurationError` for one outside its domain.

    Args:
        capacity: as for `SyntheticPool`, here and below.
        refresh: fraction.
        parts: `refreshes_per_epoch`.
        batch_size: samples per call.
        rank: rank and world size.
        ahead: whether the samples that the next part adds are made during this one.
    """
    capacity, batch_size = checked_count("capacity", capacity), checked_count("batch_size", batch_size)
    step = round(checked_number("refresh", refresh, 0.0, 1.0, "a fraction in [0, 1]") * capacity)
    parts = checked_count("refreshes_per_epoch", parts)
    return Window(capacity, step, batch_size, step if ahead else 0, *rank, parts=parts)


def checked_turn(window: Window, epoch: int, part: int) -> int:
    """The number of a part of an epoch; `ConfigurationError` if there is no such part, or its ids are too large."""
    turn = window.turn(checked_count("epoch", epoch, least=0), checked_count("part", part, least=0))
    if part >= window.parts:
        raise ConfigurationError(
            f"`part` must be in [0, {window.parts}), got {part}. An epoch has `refreshes_per_epoch` parts; "
            "SyntheticMixLoader goes through them."
        )
    if (window.start(turn) + 2 * window.num_slots) * window.world_size >= MAX_ID:
        raise ConfigurationError(f"`epoch` must keep ids below 2^62, got {epoch}.")
    return turn
