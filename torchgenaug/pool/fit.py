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
    limit = None if available is None else int(available * _MEMORY_SHARE)
    reason = "they cannot be reserved"
    if limit is None or needed <= limit:
        try:
            return Ring(window, fields, device)
        except OSError as error:
            reason = f"they cannot be reserved: {error}"
    else:
        reason = f"{available or 0:,} bytes are free, of which a pool takes at most {_MEMORY_SHARE:.0%}"
    raise ConfigurationError(
        f"`capacity` must fit into memory, got {window.capacity}: {window.num_slots} samples need {needed:,} bytes, "
        f"and {reason}.{_remedy(window, fields, device, limit)}"
    )


def _remedy(window: Window, fields: Mapping[str, FieldSpec], device: torch.device, limit: int | None) -> str:
    if limit is None:
        return " Lower `capacity`, `refresh` or `batch_size`."
    share = window.step / window.capacity

    def fits(capacity: int) -> bool:
        step = round(share * capacity)
        smaller = Window(capacity, step, window.batch_size, step if window.ahead else 0)
        return Ring.num_bytes(smaller, fields, device) <= limit

    low, high = 0, window.capacity
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return f" The largest capacity that fits is {low}." if low else " Not even one batch fits: lower `batch_size`."
