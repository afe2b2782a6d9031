"""Intensity maps: random ones, which hide the contrast of a modality, and one fitted from pairs of two modalities."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.study.transforms import BatchAffine

_STREAM = 0x57D3


@dataclass(frozen=True)
class RandomIntensityMap:
    """Sends the intensities of each image through a random piecewise linear map [0, 1] → [0, 1], then `affine`.

    Dark may become bright: a network that was trained under it depends less on the contrast of one modality.

    Attributes:
        knots: support points of the map, evenly over [0, 1].
        affine: also moves the image and its mask.
    """

    knots: int = 5
    affine: BatchAffine = field(default_factory=BatchAffine)

    def __call__(self, images: Tensor, seeds: npt.NDArray[np.uint64]) -> Tensor:
        """Images (batch, channels, *spatial) in [0, 1]; integers, such as label maps, are moved only."""
        if images.is_floating_point():
            draws = torch.from_numpy(seeding.uniform(seeding.derive(seeds, _STREAM), self.knots)).to(images)
            images = _interpolated(images.flatten(1), draws).view_as(images)
        return self.affine(images, seeds)


def fit_intensity_map(sources: Tensor, targets: Tensor, knots: int = 33) -> Tensor:
    """The look-up table from one modality to another: (knots,), the mean target at each source intensity.

    Args:
        sources: in [0, 1], any shape.
        targets: the same shape, pixel by pixel of the same place.
        knots: support points, evenly over [0, 1]; one without any pixel is interpolated from its neighbours.
    """
    bins = (sources.flatten().double() * (knots - 1)).round().long().clamp(0, knots - 1)
    counts = torch.bincount(bins, minlength=knots)
    sums = torch.bincount(bins, targets.flatten().double(), minlength=knots)
    seen = counts > 0
    places = np.arange(knots)
    means = (sums[seen] / counts[seen]).numpy()
    return torch.from_numpy(np.interp(places, places[seen.numpy()], means)).float()


def apply_intensity_map(images: Tensor, table: Tensor) -> Tensor:
    """Images (batch, channels, *spatial) in [0, 1] under a map of `fit_intensity_map`."""
    return _interpolated(images.flatten(1), table.to(images).expand(len(images), -1)).view_as(images)


def _interpolated(values: Tensor, tables: Tensor) -> Tensor:
    """Values (batch, n) in [0, 1] under piecewise linear maps given at even support points (batch, knots)."""
    places = values.clamp(0, 1) * (tables.shape[1] - 1)
    below = places.floor().long().clamp(max=tables.shape[1] - 2)
    low, high = tables.gather(1, below), tables.gather(1, below + 1)
    return low + (high - low) * (places - below)
