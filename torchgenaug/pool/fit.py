"""Checks that a pool fits into memory, and computes the largest one that does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from torchgenaug.devices import free_bytes, is_on_accelerator
from torchgenaug.errors import ConfigurationError
from torchgenaug.pool.storage.memory import available_bytes
from torchgenaug.pool.storage.ring import Ring
from torchgenaug.pool.storage.window import Window
from torchgenaug.types import FieldSpec

# The rest is for the training itself.
_MEMORY_SHARE = 0.9
_HOST = torch.device("cpu")


def build_ring(window: Window, fields: Mapping[str, FieldSpec], device: torch.device) -> Ring:
    """The ring, if it fits.

    Raises:
        ConfigurationError: it does not; the message says what is needed, what is there, and what would fit.
    """
    for place, available in _available(device).items():
        size = partial(_num_bytes, fields=fields, device=device, place=place)
        needed = size(window)
        if available is not None and needed > (limit := int(available * _MEMORY_SHARE)):
            largest = _largest_capacity(window, size, limit)
            raise ConfigurationError(
                f"{_what(window, needed, place)}, and {available:,} bytes are free, of which a pool takes at most "
                f"{_MEMORY_SHARE:.0%}. "
                + (
                    f"The largest capacity that fits is {largest}."
                    if largest
                    else "Not even one batch: lower `batch_size`."
                )
            )
    try:
        return Ring(window, fields, device)
    except (OSError, OverflowError, torch.OutOfMemoryError) as error:
        place = device if isinstance(error, torch.OutOfMemoryError) else _HOST
        what = _what(window, _num_bytes(window, fields, device, place), place)
        raise ConfigurationError(
            f"{what}, which cannot be reserved: {error}. Lower `capacity`, `refresh` or `batch_size`."
        ) from error


def _available(device: torch.device) -> dict[torch.device, int | None]:
    """What is free in each memory that a ring takes; None where unknown."""
    free: dict[torch.device, int | None] = {_HOST: available_bytes()}
    if is_on_accelerator(device):
        free[device] = free_bytes(device)
    return free


def _num_bytes(window: Window, fields: Mapping[str, FieldSpec], device: torch.device, place: torch.device) -> int:
    """What a ring on `device` needs in the memory of `place`."""
    shared = Ring.num_bytes(window, fields, device)
    return shared if place == _HOST else Ring.num_bytes(window, fields, _HOST) - shared


def _what(window: Window, needed: int, place: torch.device) -> str:
    return (
        f"`capacity` must fit into memory, got {window.capacity}: {window.num_slots} samples need {needed:,} bytes"
        + ("" if place == _HOST else f" on {place}")
    )


def _largest_capacity(window: Window, num_bytes: Callable[[Window], int], limit: int) -> int:
    """By bisection, with the same refresh; 0 if there is none."""
    refresh = window.step / window.capacity
    fits, fits_not = 0, window.capacity
    while fits_not - fits > 1:
        capacity = (fits + fits_not) // 2
        step = round(refresh * capacity)
        smaller = Window(capacity, step, window.batch_size, step if window.ahead else 0)
        if num_bytes(smaller) <= limit:
            fits = capacity
        else:
            fits_not = capacity
    return fits
