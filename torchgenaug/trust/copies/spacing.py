"""How far apart the images of two sets lie, around each of them: what tells a copy in the other set from a likeness.

A limit for all images misses copies where images differ in how alike they are: of a set of slices, those through the
middle of a head have near neighbours and those through its top have none. And a few images do not tell what distances
are usual: of thirty handwritten digits only three are of a class. So neighbours are those in both sets together.

References:
    Lowe (2004). Distinctive image features from scale-invariant keypoints. Int. J. Comput. Vis. 60, 91-110 (section
        7.1: a match counts by the ratio of its distance to that of other images).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchgenaug.trust.copies.describe import Described
from torchgenaug.trust.copies.gallery import Gallery

_NEIGHBOURS = 5
_LEAST = 8  # images that tell what distances are usual
_SURE, _SURE_TOGETHER = 12.0, 24.0
"""Spreads below what is usual: by one descriptor, and the sum over those that name the same image."""
_NARROWEST, _FEW = 0.1, 4.0  # spreads of few images are uncertain: those of twelve count 1 + 4/12 times
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """The nearest other images of each, by one descriptor: (n, 6) distances in rising order, and (n, 6) rows."""

    distances: Tensor
    rows: Tensor

    def usual(self, row: Tensor, without: Tensor) -> Tensor:
        """The logarithm of the median distance of an image to its five nearest others, without one of them."""
        others = self.distances[row].masked_fill(self.rows[row] == without[:, None], torch.inf)
        return others.sort(1).values[:, :_NEIGHBOURS].median(1).values.clamp(min=_ROUNDING).double().log()

    def ratio(self, distance: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """The logarithm of a pair's distance over the usual one around the image that has nearer neighbours."""
        usual = torch.minimum(self.usual(one, other), self.usual(other, one))
        return distance.clamp(min=_ROUNDING).double().log() - usual


def copies_between(searched: Described, looked_up: Described) -> tuple[Tensor, Tensor, Tensor]:
    """Which images lie far nearer to one of another set than the images of both sets lie to each other.

    Args:
        searched: n images, all different.
        looked_up: m images, all different.

    Returns:
        (m,) bool; (m,) int64, the row of `searched` that is nearest; (m,) its distance, 1 - cosine, the smallest one of
        three descriptors. Where neither set has 8 images, images that are equal up to flip, shift and gain alone.
    """
    first = len(searched)
    together = searched.joined(looked_up)
    gallery = Gallery.of(together)
    parts = torch.arange(first), torch.arange(first, len(together))
    distances, rows = _nearest(gallery.rows(parts[0]), looked_up)
    below = torch.zeros_like(distances, dtype=torch.float64)
    telling = [part for part in parts if len(part) >= _LEAST]
    inside = [_nearest(gallery.rows(part), together.rows(part), is_own=True) for part in telling]
    for k, neighbours in enumerate(gallery.neighbours(together, _NEIGHBOURS + 1) if telling else ()):
        around = _Neighbours(*neighbours)
        ratio = around.ratio(distances[k], parts[1], rows[k])
        spreads = []
        for part, (near, where) in zip(telling, inside, strict=True):
            usual = around.ratio(near[k], part, part[where[k]])
            middle, low = usual.median(), usual.quantile(0.25)
            # The lower quarter as a spread: duplicates themselves, if they are fewer than that, do not move it.
            spread = ((middle - low) / 0.674).clamp(min=_NARROWEST) * (1 + _FEW / len(part))
            spreads.append((middle - ratio) / spread)
        # By either set: among few images the nearest one is far, among many it is near.
        below[k] = torch.stack(spreads).amin(0)
    below[distances <= _ROUNDING] = torch.inf
    best, by = below.max(0)
    named = rows.gather(0, by[None])[0]
    sums = (below.clamp(min=0) * (rows == named)).sum(0)
    return (best >= _SURE) | (sums >= _SURE_TOGETHER), named, distances.amin(0)


def _nearest(gallery: Gallery, described: Described, *, is_own: bool = False) -> tuple[Tensor, Tensor]:
    """(3, m) distances to the nearest image by each descriptor, and (3, m) rows; `is_own`: of the gallery itself."""
    own = np.arange(len(gallery)) if is_own else None
    found = gallery.nearest(described, own=own, mine=own)
    distance, row = gallery.nearest_tapered(described, own=own, mine=own)
    return (
        torch.stack([found.spectrum_distance, distance, found.block_distance]),
        torch.stack([found.spectrum_index, row, found.block_index]),
    )
