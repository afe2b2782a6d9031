"""Block descriptor: means over a coarse grid, in every orientation that flips and quarter turns give.

References:
    Yang, Gu, Niu (2006). Block mean value based image perceptual hashing. IIH-MSP, 167-172 (kept as real numbers).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional

_BLOCKS = {2: 12, 3: 6}


def block_means(images: Tensor) -> Tensor:
    """Means over 12 × 12 or 6 × 6 × 6 blocks: (n, *spatial) → (n, *blocks) float32."""
    dims = images.ndim - 1
    pool = functional.adaptive_avg_pool2d if dims == 2 else functional.adaptive_avg_pool3d
    return pool(images.float()[:, None], _BLOCKS[dims])[:, 0]


def orientations(blocks: Tensor) -> list[Tensor]:
    """The block means after every flip (and quarter turn, of an image): 8 tensors of the same shape."""
    dims = blocks.ndim - 1
    if dims == 2:
        return [torch.rot90(each, turns, (1, 2)) for each in (blocks, blocks.flip(1)) for turns in range(4)]
    axes = [
        [axis for axis, flipped in enumerate(chosen, 1) if flipped] for chosen in itertools.product((0, 1), repeat=3)
    ]
    return [blocks.flip(each) if each else blocks for each in axes]
