"""Intensity histograms as features."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError


class HistogramFeatures:
    """Share of each image's pixels in equal bins of the value range, all channels together.

    Intensities outside the range count in the first or last bin.

    Args:
        bins: number of bins, from 2.

    Raises:
        ConfigurationError: fewer bins.
    """

    standardize = False

    def __init__(self, bins: int = 64) -> None:
        if bins < 2:
            raise ConfigurationError(f"`bins` must be at least 2, got {bins}.")
        self._bins = bins
        self.name = f"intensity histogram of {bins} bins"
        self.sha256 = hashlib.sha256(self.name.encode()).hexdigest()

    def __call__(self, images: Tensor) -> Tensor:
        """(batch, channels, *spatial) in [0, 1] → (batch, bins) float32, each row sums to 1."""
        levels = (images.flatten(1) * self._bins).long().clamp(0, self._bins - 1)
        rows = torch.arange(len(images), device=images.device)[:, None] * self._bins
        counts = torch.bincount((rows + levels).flatten(), minlength=len(images) * self._bins)
        return counts.view(len(images), self._bins) / levels.shape[1]
