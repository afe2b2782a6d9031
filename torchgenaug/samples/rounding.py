"""`rounded_to`: values in another dtype, without wrapping around."""

from __future__ import annotations

import torch
from torch import Tensor


def rounded_to(dtype: torch.dtype, value: Tensor) -> Tensor:
    """`value` in `dtype`; integers get the nearest whole number within their range, instead of wrapping around."""
    if dtype.is_floating_point or value.dtype == dtype:
        return value.to(dtype)
    limits = torch.iinfo(dtype)
    return value.double().round().clamp(limits.min, limits.max).to(dtype)
