"""From a network's [-1, 1] to the intensities of images."""

from __future__ import annotations

from torch import Tensor


def to_intensities(images: Tensor, low: float, high: float) -> Tensor:
    """[-1, 1] → [low, high], linearly; never beyond, as rounding would take -1 to a little less than `low`.

    Args:
        images: any shape, floating point, in [-1, 1].
        low: smallest value of the result.
        high: largest.
    """
    return (images * ((high - low) / 2) + (high + low) / 2).clamp(low, high)
