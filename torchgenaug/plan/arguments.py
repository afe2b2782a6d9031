"""The arguments of a plan, checked: ratio, mode, seed, count, epoch."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError, SampleIndexError
from torchgenaug.seeding import Int64Array

Mode: TypeAlias = Literal["replace", "extend"]
Ratio: TypeAlias = float | Callable[[int], float]

DEFAULT_RATIO = 0.25


def ratio_state(ratio: Ratio, epoch: int, total: object) -> float | str:
    """A ratio as a saved state holds it: of a function its name, and what it came to until the end of `epoch`."""
    if not callable(ratio):
        return float(ratio)
    name = getattr(ratio, "__qualname__", type(ratio).__name__)
    return f"{name}, synthetic until the end of epoch {epoch}: {total}"


def check_mode_and_seed(mode: object, seed: object) -> None:
    """Raises `ConfigurationError` unless both are in their domain."""
    if mode not in get_args(Mode):
        raise ConfigurationError(f"`mode` must be 'replace' or 'extend', got {mode!r}.")
    seeding.checked_seed(seed)


def check_ratio(ratio: object, mode: Mode, where: str = "") -> None:
    """Raises `ConfigurationError` unless `ratio` is a number that `mode` can reach; `where` is added to the message."""
    limits = "[0, 1]" if mode == "replace" else "[0, 1)"
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float, np.integer, np.floating)) or math.isnan(ratio):
        raise ConfigurationError(
            f"`ratio` must be a number in {limits}, or a function of the epoch, got {ratio!r}{where}."
        )
    if not 0 <= ratio <= 1 or (mode == "extend" and ratio == 1):
        remedy = ""
        if mode == "extend" and ratio == 1:
            remedy = " No number of added samples makes an epoch all synthetic. Use mode='replace' for that."
        elif 1 < ratio <= 100:
            remedy = (
                f" Write percentages as fractions, for example {ratio / 100:g}; or give an absolute number as `count`."
            )
        raise ConfigurationError(f"`ratio` must be in {limits}, got {ratio!r} in mode {mode!r}{where}.{remedy}")


def checked_share(ratio: Ratio | None, count: int | None) -> Ratio:
    """The ratio, `DEFAULT_RATIO` where neither is given; raises `ConfigurationError` where both are."""
    if ratio is not None and count is not None:
        raise ConfigurationError(
            f"`count` must be given without `ratio`, got count={count!r} and ratio={ratio!r}. Each decides how many "
            f"samples of an epoch are synthetic. Leave one out: count={count!r}."
        )
    return DEFAULT_RATIO if ratio is None else ratio


def checked_count(count: int | None, num_real: int, mode: Mode) -> int | None:
    """`count` as an int, or None; raises `ConfigurationError` unless that many samples can be synthetic."""
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 0:
        raise ConfigurationError(f"`count` must be a non-negative integer, got {count!r}.")
    if mode == "replace" and count > num_real:
        raise ConfigurationError(
            f"`count` must be at most the number of real samples ({num_real}) in mode 'replace', got {count}. "
            "Use mode='extend' to add more than that."
        )
    return int(count)


def check_epoch(epoch: object) -> None:
    """Raises `ConfigurationError` unless `epoch` is an integer from 0."""
    if isinstance(epoch, bool) or not isinstance(epoch, (int, np.integer)) or epoch < 0:
        raise ConfigurationError(f"`epoch` must be a non-negative integer, got {epoch!r}.")
    if epoch >= 1 << 63:
        raise ConfigurationError(f"`epoch` must be below 2^63, got {epoch!r}. Count epochs from 0.")


def checked_index(index: Any) -> int:
    """`index` as an int: Python and numpy integers, and tensors of one integer.

    Raises:
        SampleIndexError: anything else, such as 1.7, a slice, or a list.
    """
    if not isinstance(index, (float, np.floating, bool, np.bool_)) and "bool" not in str(getattr(index, "dtype", "")):
        try:
            return operator.index(index)
        except TypeError:
            pass
    remedy = " Let the DataLoader make the batches: batch_size=..." if isinstance(index, (list, tuple, slice)) else ""
    raise SampleIndexError(
        f"`index` must be an integer, got {index!r}. Which sample of a mix is synthetic depends on its number.{remedy}"
    )


def index_array(indices: npt.ArrayLike) -> Int64Array:
    """`indices` as an int64 array of the same shape.

    Raises:
        SampleIndexError: anything but integers, such as 1.7 or a mask of bools, or integers beyond 64 bits.
    """
    array = np.asarray(indices)
    if array.dtype.kind not in "iu" and array.size:
        raise SampleIndexError(
            f"`indices` must be integers below 2^63, got {array.reshape(-1)[:3].tolist()} of dtype {array.dtype}. "
            "Which sample is synthetic depends on its number. Of a mask, give the numbers: np.flatnonzero(mask)."
        )
    return array.astype(np.int64, copy=False)
