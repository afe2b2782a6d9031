"""Distances between the anatomy of two images that do not depend on their contrasts, nor on the order of intensities.

A critic only sees whether a translation looks like an image of the target modality; nothing in it keeps an organ where
it is. These losses do, and hold for T1 and T2, where bright becomes dark.

References:
    Haber, Modersitzki (2006), "Intensity gradient based registration and fusion of multi-modal images", MICCAI, eq. 4.
    Heinrich et al. (2012), "MIND: modality independent neighbourhood descriptor for multi-modal deformable
    registration", Medical Image Analysis 16, eq. 2 and 4.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from torchgenaug.recipes.settings import Setting

STRUCTURE = {
    "structure": Setting(0.0, "weight of edges that source and translation must share, whatever their contrast", low=0)
}
"""The setting of families that use such a distance."""

_POOLS = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
_EDGE = 0.1  # gradients below this, in units of [-1, 1] a pixel, count as noise
_FLAT = 0.01  # patch distances below this are noise, in squared units of [-1, 1]


def edge_distance(image: Tensor, source: Tensor) -> Tensor:
    """Mean over the edges of both of 1 - cos² of the angle between the two gradients: 0 where all edges are parallel.

    Args:
        image: (batch, channels, *spatial) in [-1, 1]; the mean of its channels is taken.
        source: the same spatial size, any number of channels.
    """
    ours, theirs = _gradient(image), _gradient(source)
    sizes = [(each.square().sum(1) + _EDGE**2) for each in (ours, theirs)]
    # Of either sign, and by Cauchy-Schwarz at most 1; the root has a gradient at 0.
    together = ((ours * theirs).sum(1).square() + 1e-8).sqrt()
    parallel = (together + _EDGE**2).square() / (sizes[0] * sizes[1])
    return (1 - parallel).clamp(min=0).mean()


def similarity_distance(image: Tensor, source: Tensor) -> Tensor:
    """Mean difference of what a place resembles: patches that are alike in `source` are to be alike in `image`.

    Args:
        image: (batch, channels, *spatial) in [-1, 1]; the mean of its channels is taken.
        source: the same spatial size, any number of channels.
    """
    return (_likeness(image) - _likeness(source)).abs().mean()


def _gradient(images: Tensor) -> Tensor:
    """Central differences (batch, dims, *spatial), 0 beyond the border."""
    grey = images.mean(1, keepdim=True)
    parts = []
    for axis in range(2, images.ndim):
        ahead, behind = (grey.roll(-step, axis).narrow(axis, 1, grey.shape[axis] - 2) for step in (1, -1))
        inner = (ahead - behind) / 2
        pad = [0, 0] * (images.ndim - 1 - axis) + [1, 1]
        parts.append(functional.pad(inner, pad))
    return torch.cat(parts, 1)


def _likeness(images: Tensor) -> Tensor:
    """exp(-distance / local variance) of the patch at a place to those two pixels away along each axis."""
    grey = images.mean(1, keepdim=True)
    pool = _POOLS[images.ndim - 2]
    shifts = [(step, axis) for axis in range(2, images.ndim) for step in (2, -2)]
    apart = [pool((grey - grey.roll(step, axis)).square(), 3, 1, 1) for step, axis in shifts]
    distances = torch.cat(apart, 1)
    return torch.exp(-distances / (distances.mean(1, keepdim=True) + _FLAT))
