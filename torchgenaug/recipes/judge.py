"""How far samples are from real images, and whether they copy them: what a training run reports about itself.

Both measures need no pretrained network and work for 64 samples, in 2D and 3D. They tell one run's beginning from its
end, and a good model from noise; they are no substitute for judging a downstream model on real data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PATCH, _PATCHES, _DIRECTIONS = 7, 64, 128
_POOLED = 16  # side of the small images whose distances say "copy"
_SHARE_NEAREST = 0.5  # of what chance gives: digits of other writers have 0.83, the block of brain slices has 0


def sliced_wasserstein(images: Tensor, others: Tensor) -> float:
    """Sliced Wasserstein distance between two sets of images: 0 for equal sets, about 1 for noise against images.

    The mean over the levels of a Laplacian pyramid of the Wasserstein-1 distance between random one-dimensional
    projections of local patches: Karras, Aila, Laine, Lehtinen (2018), "Progressive growing of GANs for improved
    quality, stability, and variation", section 5, after Rabin et al. (2012). Differences from there: patches are scaled
    by the spread of `others` instead of each set by its own, so that a loss of contrast counts; volumes are judged by
    their middle slices along each axis.

    Args:
        images: (count, channels, *spatial) float.
        others: the real ones, as many or not; the first ``min`` of both are compared. Same range of values.
    """
    count = min(len(images), len(others))
    levels_a, levels_b = (_pyramid(_as_slices(each[:count].float().cpu())) for each in (images, others))
    draw = torch.Generator().manual_seed(0)
    distances = []
    for a, b in zip(levels_a, levels_b, strict=True):
        patches_a, patches_b = _patches(a), _patches(b)
        spread = patches_b.std().clamp(min=1e-6)
        directions = torch.randn((patches_a.shape[1], _DIRECTIONS), generator=draw)
        directions /= directions.norm(dim=0)
        sorted_a, sorted_b = (_sorted((patches @ directions).T) for patches in (patches_a, patches_b))
        distances.append(((sorted_a - sorted_b).abs().mean() / spread).item())
    return sum(distances) / len(distances)


def _sorted(rows: Tensor) -> Tensor:
    # NumPy sorts float32 with the processor's vector instructions, in a sixth of torch's time.
    return torch.from_numpy(np.sort(np.ascontiguousarray(rows.numpy())))


class CopyTest:
    """Whether samples lie closer to training images than images that the model never saw do.

    For each image the distance to the nearest training image is divided by that to the nearest held-out one. A copy has
    a ratio near 0; a blurred image, or one of too little variety, lies close to both, and has an ordinary one. A sample
    counts as a copy if its ratio is below that of all but 5 % of the held-out images themselves (each without itself):
    the three samples of Meehan, Chaudhuri, Dasgupta (2020), "A non-parametric test to detect data-copying in generative
    models". Distances are Euclidean, between images averaged down to at most 16 pixels a side.

    Held-out images must be drawn as the training images were. A block of neighbouring slices is not: its images are
    nearer to each other than to any others, and noise would count as a copy.

    Args:
        train: training images (count, channels, *spatial), all or many; `thumbnails` of them do as well.
        held_out: images of the same kind that the model does not see, at least 2.
        patients: whose each held-out image is; images of one patient are not compared with each other.

    Attributes:
        comparable: False where less than half as many held-out images as by chance have a training image as their
            nearest, or all are of one patient: nothing is measured.
    """

    expected = 0.05
    """Fraction of "copies" among samples of an honest model."""

    def __init__(self, train: Tensor, held_out: Tensor, patients: Sequence[str] = ()) -> None:
        self._train, self._held_out = _small(train), _small(held_out)
        among = torch.cdist(self._held_out, self._held_out).fill_diagonal_(math.inf)
        if patients:
            _, number = np.unique(np.asarray(patients), return_inverse=True)
            whose = torch.from_numpy(number)
            among = among.masked_fill(whose[:, None] == whose, math.inf)
        others = among.isfinite().sum(1)
        nearest = torch.cdist(self._held_out, self._train).min(1).values
        self.threshold = float((nearest / among.min(1).values.clamp(min=1e-12)).quantile(self.expected))
        share = len(self._train) / (len(self._train) + others)  # of nearest images that are training images, by chance
        found = int((nearest <= among.min(1).values).sum())
        self.comparable = bool(others.all()) and found >= _SHARE_NEAREST * float(share.sum())

    def fraction(self, images: Tensor) -> float:
        """Fraction of `images` (count, channels, *spatial) that count as copies; NaN if not `comparable`."""
        if not self.comparable:
            return math.nan
        small = _small(images)
        to_train, to_held_out = (torch.cdist(small, real).min(1).values for real in (self._train, self._held_out))
        return float((to_train < self.threshold * to_held_out).float().mean())

    def alarming(self, fraction: float, count: int) -> bool:
        """Whether `fraction` of `count` samples is more than chance: by three standard errors, and a tenth."""
        error = math.sqrt(self.expected * (1 - self.expected) / count)
        return fraction > self.expected + max(0.1, 3 * error)


def _as_slices(images: Tensor) -> Tensor:
    if images.ndim == 4:
        return images
    middles = [images.movedim(axis, 2)[:, :, images.shape[axis] // 2] for axis in (2, 3, 4)]
    side = min(min(middle.shape[2:]) for middle in middles)
    return torch.cat([nn.functional.adaptive_avg_pool2d(middle, side) for middle in middles])


def _pyramid(images: Tensor) -> list[Tensor]:
    levels = []
    while min(images.shape[2:]) >= 2 * _PATCH:
        small = nn.functional.avg_pool2d(images, 2)
        levels.append(images - nn.functional.interpolate(small, images.shape[2:], mode="bilinear"))
        images = small
    return [*levels, images]


def _patches(images: Tensor) -> Tensor:
    """Patches at the same random places of every image: (count * patches, channels * 49)."""
    side = min(_PATCH, *images.shape[2:])
    draw = torch.Generator().manual_seed(1)
    found = nn.functional.unfold(images, side)
    places = torch.randint(found.shape[2], (_PATCHES,), generator=draw)
    return found[:, :, places].movedim(2, 1).flatten(0, 1)


def thumbnails(images: Tensor) -> Tensor:
    """`images` (count, channels, *spatial), averaged down to at most 16 pixels a side."""
    spatial: Any = tuple(min(_POOLED, size) for size in images.shape[2:])
    pool: nn.Module = nn.AdaptiveAvgPool2d(spatial) if len(spatial) == 2 else nn.AdaptiveAvgPool3d(spatial)
    small: Tensor = pool(images.float().cpu())
    return small


def _small(images: Tensor) -> Tensor:
    return thumbnails(images).flatten(1)
