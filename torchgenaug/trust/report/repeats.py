"""Images that repeat others: calibrated on how near real images come to each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from torchgenaug import seeding
from torchgenaug.trust.copies.describe import Described, Images
from torchgenaug.trust.copies.gallery import Gallery, Nearest

EXPECTED = 0.01
"""Share of real images that come as near to another one."""

_ALIKE = 0.15  # of the distance of real images from their mean


class Repeats(NamedTuple):
    """How often the images of a set repeat one another.

    Attributes:
        share: of the images that lie nearer to another one, by both descriptors, than 99 % of real images do.
        pairs: (first, second) positions of the nearest ones, at most 20.
    """

    share: float
    pairs: list[tuple[int, int]]


def find_repeats(synthetic: Described, real: Described, *, seed: int = 0) -> Repeats:
    """Compares nearest distances within the synthetic set to those within as many real images.

    Args:
        synthetic: descriptors of the synthetic images.
        real: descriptors of real ones.
        seed: decides which ones, where the sets differ in size: nearest distances depend on the number.
    """
    count = min(len(synthetic), len(real))
    if count < 3:
        return Repeats(0.0, [])
    real, rows = _drawn(real, count, seed)[0], _drawn(synthetic, count, seed + 1)[1]
    within, usual = _within(synthetic.rows(rows)), _within(real)
    limits = [
        float(torch.quantile(each, EXPECTED))
        for each in (usual.spectrum_distance.double(), usual.block_distance.double())
    ]
    near = (within.spectrum_distance <= limits[0]) & (within.block_distance <= limits[1])
    # Distances are taken from the set's own mean, from which images that are all alike lie in all directions.
    near |= _from_mean(synthetic.rows(rows)) < _ALIKE * _from_mean(real).median()
    near &= ~synthetic.constant[rows]
    constant = float(synthetic.constant[rows].double().mean())
    order = within.block_distance.argsort()
    order = order[near[order]]
    found = {tuple(sorted((int(rows[k]), int(rows[within.block_index[k]])))) for k in order[:40]}
    return Repeats(float(near.double().mean()) + constant, [(pair[0], pair[1]) for pair in sorted(found)[:20]])


def count_identical(synthetic: Images, train: Images, nearest: np.ndarray, tolerance: float) -> int:
    """How many synthetic images equal their nearest training image in every pixel.

    Args:
        synthetic: n images.
        train: images that `nearest` counts.
        nearest: (n,) positions; -1: none.
        tolerance: largest difference, in the unit of the images, that still counts as equal.
    """
    count = 0
    for row, other in enumerate(nearest.tolist()):
        if other >= 0:
            difference = torch.as_tensor(synthetic[row]).float() - torch.as_tensor(train[other]).float()
            count += bool(difference.abs().max() <= tolerance)
    return count


def _drawn(described: Described, count: int, seed: int) -> tuple[Described, torch.Tensor]:
    rows = torch.from_numpy(seeding.permutation(seed, len(described))[:count].astype(np.int64))
    return described.rows(rows), rows


def _from_mean(described: Described) -> torch.Tensor:
    """(n,) how far each image lies from the mean of its set, by its block means."""
    distances: torch.Tensor = torch.linalg.vector_norm((described.blocks - described.blocks.mean(0)).flatten(1), dim=1)
    return distances


def _within(described: Described) -> Nearest:
    own = np.arange(len(described))
    return Gallery.of(described).nearest(described, own=own, mine=own)
