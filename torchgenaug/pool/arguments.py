"""Checks of the pool's arguments."""

from __future__ import annotations

import math
import operator

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError, SampleIndexError
from torchgenaug.pool.storage.window import Window
from torchgenaug.sequence.sequence import MAX_ID

_FEW = 64  # as in `ring`: the first reduction by numpy after a training step costs 30 µs


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


def checked_positions(positions: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """`positions` as int64, each in ``range(length)``; `SampleIndexError` if they are not."""
    array = np.asarray(positions)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SampleIndexError(
            f"`positions` must be a list of integers, got {array.dtype} of shape {array.shape}. "
            "Use numpy integers, such as np.arange(4)."
        )
    array = array.astype(np.int64, copy=False)
    if len(array) <= _FEW:
        values = array.tolist()
        inside = not values or (min(values) >= 0 and max(values) < length)
    else:
        # One pass finds negative ones too: as unsigned numbers they are huge.
        inside = bool(array.view(np.uint64).max() < length)
    if not inside:
        raise SampleIndexError(
            f"`positions` must be in [0, {length}), got {array.min()} to {array.max()}. "
            "Positions are those of the pool's window; `ids` says which samples they hold."
        )
    return array
