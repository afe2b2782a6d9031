"""Whether a pool's ring fits into memory, and which would."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.pool.memory import available_bytes
from torchgenaug.pool.ring import Ring
from torchgenaug.pool.window import Window
from torchgenaug.types import FieldSpec

# The rest is for the training itself.
_MEMORY_SHARE = 0.9


def build_ring(window: Window, fields: Mapping[str, FieldSpec], device: torch.device) -> Ring:
    """The ring, if it fits.

    Raises:
        ConfigurationError: it does not; the message says what is needed, what is there, and what would fit.
    """
    needed, available = Ring.num_bytes(window, fields, device), available_bytes()
    on_device = 0 if device.type == "cpu" else Ring.num_bytes(window, fields, torch.device("cpu")) - needed
    what = f"`capacity` must fit into memory, got {window.capacity}: {window.num_slots} samples need {needed:,} bytes"
    if on_device:
        what += f", and {on_device:,} on {device}"
    if available is not None and needed > (limit := int(available * _MEMORY_SHARE)):
        largest = _largest_capacity(window, fields, device, limit)
        raise ConfigurationError(
            f"{what}, and {available:,} bytes are free, of which a pool takes at most {_MEMORY_SHARE:.0%}. "
            + (
                f"The largest capacity that fits is {largest}."
                if largest
                else "Not even one batch: lower `batch_size`."
            )
        )
    try:
        return Ring(window, fields, device)
    except (OSError, OverflowError, torch.OutOfMemoryError) as error:
        raise ConfigurationError(
            f"{what}, which cannot be reserved: {error}. Lower `capacity`, `refresh` or `batch_size`."
        ) from error


def _largest_capacity(window: Window, fields: Mapping[str, FieldSpec], device: torch.device, limit: int) -> int:
    """By bisection, with the same refresh; 0 if there is none."""
    refresh = window.step / window.capacity
    fits, fits_not = 0, window.capacity
    while fits_not - fits > 1:
        capacity = (fits + fits_not) // 2
        step = round(refresh * capacity)
        smaller = Window(capacity, step, window.batch_size, step if window.ahead else 0)
        if Ring.num_bytes(smaller, fields, device) <= limit:
            fits = capacity
        else:
            fits_not = capacity
    return fits
