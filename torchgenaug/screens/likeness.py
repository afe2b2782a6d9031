"""Which images of a batch look alike: exact copies by a hash of their bytes, near copies by block means.

References:
    Yang, Gu, Niu (2006). Block mean value based image perceptual hashing. IIH-MSP, 167-172 (the descriptor, kept as
        real numbers instead of one bit per block).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
import xxhash
from torch import Tensor
from torch.nn import functional

_BLOCKS = {1: 64, 2: 8, 3: 4}  # spatial axes → blocks along each: 64 per channel


def block_means(images: Tensor) -> Tensor:
    """Means over a grid of blocks, 64 per channel: (batch, channels, *spatial) → (batch, channels, 64) float32."""
    dims = images.ndim - 2
    if dims not in _BLOCKS:
        images, dims = images.flatten(2), 1
    pool = {1: functional.adaptive_avg_pool1d, 2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d}
    return pool[dims](images.float(), _BLOCKS[dims]).flatten(2)


def content_hashes(images: Tensor) -> list[int]:
    """xxh3 (64 bit) of each image's bytes."""
    rows = images.detach().cpu().contiguous().flatten(1).view(torch.uint8).numpy()
    return [xxhash.xxh3_64_intdigest(row.data) for row in rows]


def have_copies(hashes: Sequence[int]) -> Tensor:
    """(batch,) bool: whether another image has the same hash."""
    counts = Counter(hashes)
    return torch.tensor([counts[digest] > 1 for digest in hashes])


def have_near_copies(means: Tensor, tolerance: float) -> Tensor:
    """(batch,) bool: whether another image's block means are all but the same.

    Two images are alike if the root mean square of the differences of their block means is at most `tolerance` times
    the larger of their contrasts, which are the standard deviations of the block means within each channel.

    Args:
        means: from `block_means`, (batch, channels, 64).
        tolerance: fraction of the contrast.
    """
    flat = means.flatten(1)
    centred = means - means.mean(2, keepdim=True)
    contrast = centred.flatten(1).square().mean(1).sqrt()
    # Centred and in float64: the fast formula of cdist loses small distances between large vectors.
    flat = flat.double() - flat.double().mean(0)
    distances = torch.cdist(flat, flat) / math.sqrt(flat.shape[1])
    distances.fill_diagonal_(torch.inf)
    return (distances <= tolerance * torch.maximum(contrast[:, None], contrast)).any(1)
