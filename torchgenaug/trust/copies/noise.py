"""How much of a distance between two images is the noise of one of them.

White noise adds the same to the distances to all images: to that of the original, which then is no longer near, as to
those of strangers. Its level is read off the image, and what it is expected to add is taken off.

References:
    Donoho (1995). De-noising by soft-thresholding. IEEE Trans. Inf. Theory 41, 613-627 (the level from the median of
        the finest diagonal details).
    Spearman (1904). The proof and measurement of association between two things. Am. J. Psychol. 15, 72-101
        (correction for attenuation).
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 0.1
"""Of what noise is expected to add, so much is always left: its energy fluctuates by a fifth."""
_NORMAL = 0.6745  # median of the absolute value of a standard normal variable


def noise_variance(images: Tensor) -> Tensor:
    """(n, *spatial) → (n,) variance of white noise, from the differences along all axes; 0 of images of one pixel."""
    details = images.float()
    for axis in range(1, images.ndim):
        if images.shape[axis] < 2:
            return torch.zeros(len(images))
        details = details.diff(dim=axis) / 2**0.5
    level: Tensor = details.abs().flatten(1).median(1).values / _NORMAL
    return level.square()


def without_noise(distance: Tensor, added: Tensor) -> Tensor:
    """Distances without what noise is expected to add to them, both (n,)."""
    return torch.maximum(distance - added, _LEAST * added)
