"""Checks of the pool's arguments."""

from __future__ import annotations

import math
import operator

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError, SampleIndexError


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


def checked_positions(positions: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """`positions` as int64, each in ``range(length)``; `SampleIndexError` if they are not."""
    array = np.asarray(positions)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SampleIndexError(
            f"`positions` must be a list of integers, got {array.dtype} of shape {array.shape}. "
            "Use numpy integers, such as np.arange(4)."
        )
    array = array.astype(np.int64, copy=False)
    # One pass finds negative ones too: as unsigned numbers they are huge.
    if array.size and array.view(np.uint64).max() >= length:
        raise SampleIndexError(
            f"`positions` must be in [0, {length}), got {array.min()} to {array.max()}. "
            "Positions are those of the pool's window; `ids` says which samples they hold."
        )
    return array
