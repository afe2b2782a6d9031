"""Degraded copies of real images: what a measure says of them is the ceiling of the scale."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from torchgenaug import seeding

Ceiling: TypeAlias = Literal["blur", "noise"]
"""``"blur"``: Gaussian blur of 1/32 of the shortest side, at least one pixel. ``"noise"``: white noise alone."""


def degrade(images: Tensor, kind: Ceiling, *, seed: int = 0) -> Tensor:
    """Images (count, channels, *spatial) in [0, 1], blurred, or replaced by noise of their mean and spread."""
    return blur(images, max(1.0, min(images.shape[2:]) / 32)) if kind == "blur" else _noise_like(images, seed)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur along every spatial axis, edges repeated.

    Args:
        images: (count, channels, *spatial) float, 2D or 3D.
        sigma: standard deviation in pixels.
    """
    radius = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=images.dtype) / sigma) ** 2)
    taps = (taps / taps.sum()).to(images.device).view(1, 1, -1)
    for axis in range(2, images.ndim):
        moved = images.movedim(axis, -1)
        lines = nn.functional.pad(moved.reshape(-1, 1, moved.shape[-1]), (radius, radius), mode="replicate")
        images = nn.functional.conv1d(lines, taps).view(moved.shape).movedim(-1, axis)
    return images.contiguous()


def _noise_like(images: Tensor, seed: int) -> Tensor:
    seeds = seeding.derive(seed, seeding.NOISE, range(len(images)))
    noise = seeding.normal(seeds, images.shape[1:]).to(images)
    return (images.mean() + images.std() * noise).clamp(0, 1)
