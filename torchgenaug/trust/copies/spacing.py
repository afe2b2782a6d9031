"""How far apart the images of a set lie, around each of them: what tells a copy in another set from a likeness.

A limit for all images misses copies where images differ in how alike they are: of a set of slices, those through the
middle of a head have near neighbours and those through its top have none.

References:
    Lowe (2004). Distinctive image features from scale-invariant keypoints. Int. J. Comput. Vis. 60, 91-110 (section
        7.1: a match counts by the ratio of its distance to that of other images).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchgenaug.trust.copies.describe import Described
from torchgenaug.trust.copies.gallery import Gallery

_NEIGHBOURS = 5
_LEAST = 30  # images whose distances tell what is usual
_SURE, _SURE_TOGETHER = 9.0, 20.0
"""Spreads below what is usual: by one descriptor, and the sum over those that name the same image. In 40 clean splits
of digits, brains and nuclei each, the farthest image lay 7.0 and 16.9 below; copies saved as JPEG of quality 50 lie 9.1
below among digits, 10 among brains."""
_NARROWEST = 0.1
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Spacing:
    """Usual distances in a set. Build it with `of`.

    Attributes:
        references: (3, n), logarithm of the median distance of each image to its five nearest others, by spectrum,
            tapered spectrum and block means.
        middle: (3,), of the logarithm of nearest distance over the reference of the image found.
        spread: (3,), of the same.
    """

    references: Tensor
    middle: Tensor
    spread: Tensor

    @classmethod
    def of(cls, gallery: Gallery, described: Described) -> Spacing | None:
        """The distances between the images of a gallery; None for fewer than 30."""
        if len(described) < _LEAST:
            return None
        references, middles, spreads = [], [], []
        for distances, rows in gallery.neighbours(described, _NEIGHBOURS + 1):
            logs = distances.clamp(min=_ROUNDING).double().log()
            nearest = rows[:, 0]
            # An image's own distance must not be part of what it is compared with.
            others = logs[nearest].masked_fill(rows[nearest] == torch.arange(len(rows))[:, None], torch.inf)
            usual = logs[:, 0] - others.sort(1).values[:, :_NEIGHBOURS].median(1).values
            middle, low = usual.median(), usual.quantile(0.25)
            references.append(logs[:, :_NEIGHBOURS].median(1).values)
            middles.append(middle)
            # The lower quarter as a spread: duplicates themselves, if they are fewer than that, do not move it.
            spreads.append(((middle - low) / 0.674).clamp(min=_NARROWEST))
        return cls(torch.stack(references), torch.stack(middles), torch.stack(spreads))

    def is_copy(self, distances: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Which images are far nearer to one of the set than its neighbours are, and to which one.

        Args:
            distances: (3, m) to the nearest image of the set, by each descriptor.
            rows: (3, m) which one that is.

        Returns:
            (m,) bool and (m,) int64.
        """
        logs = distances.clamp(min=_ROUNDING).double().log() - self.references.gather(1, rows)
        below = -(logs - self.middle[:, None]) / self.spread[:, None]
        best, by = below.max(0)
        named = rows.gather(0, by[None])
        together = (below.clamp(min=0) * (rows == named)).sum(0)
        return (best >= _SURE) | (together >= _SURE_TOGETHER), named[0]
