"""Hausdorff distance between the surfaces of label maps.

MONAI's function is the same (a test compares them), but it warns of its own deprecated arguments at every call, and
gives NaN or infinity for absent classes.

References:
    Huttenlocher, Klanderman, Rucklidge (1993). Comparing images using the Hausdorff distance. IEEE TPAMI 15, 850.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def hausdorff(
    references: Tensor,
    predictions: Tensor,
    classes: Sequence[int],
    *,
    spacing_mm: Sequence[float] | None = None,
    percentile: float | None = None,
) -> Tensor:
    """Largest distance from a point of one surface to the other surface, per image and class.

    A class that one map lacks has no distance: it counts as the image's diagonal, the worst there can be, because
    leaving such images out would reward a model that misses structures. A class that both lack is NaN.

    Args:
        references: (batch, 1, *spatial) integer labels.
        predictions: the same shape.
        classes: which labels.
        spacing_mm: size of a pixel along each spatial axis; None: 1.
        percentile: in place of the largest distance its percentile, for example 95: less at the mercy of one pixel.

    Returns:
        (batch, classes) float64, in mm if `spacing_mm` is given, else in pixels.
    """
    spatial = references.shape[2:]
    spacing = [1.0] * len(spatial) if spacing_mm is None else list(spacing_mm)
    diagonal = math.hypot(*(size * step for size, step in zip(spatial, spacing, strict=True)))
    distances = torch.full((len(references), len(classes)), torch.nan, dtype=torch.float64)
    for column, label in enumerate(classes):
        a, b = references == label, predictions == label
        in_a, in_b = a.flatten(1).any(1), b.flatten(1).any(1)
        distances[(in_a ^ in_b).cpu(), column] = diagonal
        for row in (in_a & in_b).nonzero().flatten().tolist():
            distances[row, column] = _between(a[row, 0].cpu().numpy(), b[row, 0].cpu().numpy(), spacing, percentile)
    return distances


def _between(a: Any, b: Any, spacing: list[float], percentile: float | None) -> float:
    from scipy.ndimage import binary_erosion, distance_transform_edt

    surfaces = [each & ~binary_erosion(each) for each in (a, b)]
    ways = []
    for one, other in (surfaces, surfaces[::-1]):
        way = distance_transform_edt(~other, sampling=spacing)[one]
        ways.append(way.max() if percentile is None else np.percentile(way, percentile))
    return float(max(ways))
