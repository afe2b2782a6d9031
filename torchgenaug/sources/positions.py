"""Checks the positions and scalar fields that a source is read at."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.devices import copies_from_pinned_memory
from torchgenaug.errors import ConfigurationError, SampleIndexError
from torchgenaug.types import FieldSpec

FEW = 64
"""Up to here Python's integers are faster than NumPy, whose first call after a training step takes 10-30 µs."""


def checked_positions(positions: npt.ArrayLike, length: int) -> npt.NDArray[np.int64]:
    """Returns `positions` as (n,) int64.

    Raises:
        SampleIndexError: they are not a list of integers, or one is outside ``range(length)``.
    """
    array = np.asarray(positions)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise SampleIndexError(
            f"`positions` must be a list of integers, got {array.dtype} of shape {array.shape}. Nothing was read. "
            "Use NumPy integers, such as np.arange(4)."
        )
    array = array.astype(np.int64, copy=False)
    if array.size <= FEW:
        values = array.tolist()
        inside = not values or (min(values) >= 0 and max(values) < length)
    else:
        # One pass finds negative ones too: as unsigned numbers they are huge.
        inside = bool(array.view(np.uint64).max() < length)
    if not inside:
        raise SampleIndexError(
            f"`positions` must be in [0, {length}), got {array.min()} to {array.max()}. Nothing was read."
        )
    return array


def check_scalar_field(field: str, fields: Mapping[str, FieldSpec]) -> None:
    """Raises `ConfigurationError` unless `field` is one of single numbers."""
    if field not in fields or fields[field].shape:
        scalars = [name for name, spec in fields.items() if not spec.shape]
        raise ConfigurationError(f"`field` must be one of the fields of single numbers, {scalars}, got {field!r}.")


def index_tensor(rows: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """Returns row numbers as an int64 tensor on `device`, without waiting for what the device computes.

    A copy to a GPU from ordinary memory waits for its whole queue, the training step included; one from pinned memory
    does not.
    """
    index = torch.from_numpy(rows)
    if device.type == "cpu":
        return index
    return (index.pin_memory() if copies_from_pinned_memory(device) else index).to(device, non_blocking=True)


def checked_index(index: Any, length: int) -> int:
    """Returns one index as an int in ``range(length)``; negative ones count from the end.

    Raises:
        SampleIndexError: not an integer, or outside ``range(-length, length)``.
    """
    try:
        number = operator.index(index)
    except TypeError:
        raise SampleIndexError(
            f"An index must be one integer, got {index!r}. Several samples at once are read by "
            "source.read(numpy.arange(4)), and a part of a data set is torch.utils.data.Subset(source, range(4))."
        ) from None
    if not -length <= number < length:
        raise SampleIndexError(f"An index must be in [-{length}, {length}), got {number}.")
    return number % length
