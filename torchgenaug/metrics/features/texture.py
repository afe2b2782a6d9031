"""Grey-level co-occurrence and radial power spectra of whole images, for a batch at a time.

References:
    Haralick, Shanmugam, Dinstein (1973). Textural features for image classification. IEEE Trans. SMC 3, 610.
    Zwanenburg et al. (2020). The image biomarker standardisation initiative. Radiology 295, 328 (the definitions).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

TEXTURE_NAMES = ("contrast", "correlation", "inverse difference", "joint energy", "joint entropy")


def directions(axes: int) -> list[tuple[int, ...]]:
    """Neighbour offsets up to sign: 4 in 2D, 13 in 3D."""
    offsets = itertools.product((-1, 0, 1), repeat=axes)
    return [offset for offset in offsets if offset > (0,) * axes]


def cooccurrence(levels: Tensor, num_levels: int, distance: int) -> Tensor:
    """Symmetric co-occurrence matrices, summed over all directions, normalised to sum 1.

    Args:
        levels: (batch, *spatial) int64 in [0, num_levels).
        num_levels: grey levels.
        distance: in pixels along each axis of a direction (Chebyshev norm), below every size.

    Returns:
        (batch, num_levels, num_levels) float64.
    """
    count, cells = len(levels), num_levels**2
    first = torch.arange(count, device=levels.device).view(-1, *[1] * (levels.ndim - 1)) * cells
    counts = torch.zeros(count * cells, dtype=torch.int64, device=levels.device)
    for offset in directions(levels.ndim - 1):
        here, there = _shifted(levels, offset, distance)
        counts += torch.bincount((first + here * num_levels + there).flatten(), minlength=count * cells)
    matrices = counts.view(count, num_levels, num_levels).double()
    matrices = matrices + matrices.transpose(1, 2)
    return matrices / matrices.sum((1, 2), keepdim=True)


def texture(matrices: Tensor) -> Tensor:
    """`TEXTURE_NAMES` of co-occurrence matrices (batch, levels, levels): (batch, 5) float64.

    The correlation of a constant image, 0/0, counts as 1: every pixel predicts its neighbour (as in IBSI software).
    """
    size = matrices.shape[1]
    level = torch.arange(size, dtype=matrices.dtype, device=matrices.device)
    difference = level[:, None] - level
    marginal = matrices.sum(2)
    mean = marginal @ level
    variance = marginal @ level.square() - mean.square()
    product = (matrices * (level[:, None] * level)).sum((1, 2)) - mean.square()
    varied = variance > 1e-9
    return torch.stack(
        [
            (matrices * difference.square()).sum((1, 2)),
            torch.where(varied, product / variance.clamp(min=1e-9), torch.ones_like(product)),
            (matrices / (1 + difference.abs())).sum((1, 2)),
            matrices.square().sum((1, 2)),
            -torch.xlogy(matrices, matrices).sum((1, 2)) / math.log(2),
        ],
        dim=1,
    )


def radial_log_power(images: Tensor, bands: int) -> Tensor:
    """Mean log10 power of `bands` rings of spatial frequency, the mean left out: (batch, bands) of (batch, *spatial).

    Rings are equally wide, from 0 to half a cycle per pixel (the corners beyond belong to the last). A ring without any
    frequency, of a small image, is 0.
    """
    axes = tuple(range(1, images.ndim))
    power = torch.fft.rfftn(images - images.mean(axes, keepdim=True), dim=axes, norm="ortho").abs().square()
    radius = _frequency(images.shape[1:], images)
    ring = (radius * 2 * bands).long().clamp(max=bands - 1).flatten()[1:]  # the first is the mean
    log_power = torch.log10(power.flatten(1)[:, 1:] + 1e-8)  # 10⁻⁸: below 8 bit quantisation of [0, 1]
    sums = log_power.new_zeros((len(images), bands)).index_add_(1, ring, log_power)
    sizes = torch.bincount(ring, minlength=bands).clamp(min=1)
    return sums / sizes


def _shifted(levels: Tensor, offset: Sequence[int], distance: int) -> tuple[Tensor, Tensor]:
    here, there = levels, levels
    for axis, step in enumerate(offset, start=1):
        length = levels.shape[axis] - distance * abs(step)
        here = here.narrow(axis, distance if step < 0 else 0, length)
        there = there.narrow(axis, distance if step > 0 else 0, length)
    return here, there


def _frequency(spatial: Sequence[int], like: Tensor) -> Tensor:
    axes = [torch.fft.fftfreq(size, device=like.device) for size in spatial[:-1]]
    grid = torch.meshgrid(*axes, torch.fft.rfftfreq(spatial[-1], device=like.device), indexing="ij")
    return torch.stack(grid).square().sum(0).sqrt()
