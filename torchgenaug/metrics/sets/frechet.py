"""Fréchet distance between two sets of features, and its extrapolation to infinitely many images.

The distance between the two Gaussians that have the sets' means and covariances, without a matrix square root: with A
and B the centred features over √(count − 1), tr((ΣᵃΣᵇ)^½) is the nuclear norm of A Bᵀ.

References:
    Dowson, Landau (1982). The Fréchet distance between multivariate normal distributions. J. Multivar. Anal. 12, 450.
    Heusel et al. (2017). GANs trained by a two time-scale update rule converge to a local Nash equilibrium. NeurIPS.
    Chong, Forsyth (2020). Effectively unbiased FID and Inception Score and where to find them. CVPR.
    Konz et al. (2025). RaD: a metric for medical image distribution comparison. arXiv:2412.01496 (radiomic features).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.errors import TooFewImagesError
from torchgenaug.metrics.distances import check_same_features, row_blocks
from torchgenaug.metrics.sets.measure import SetMeasure

_SIZES = 6  # points of the extrapolation


def frechet_distance(real: Tensor, synthetic: Tensor) -> float:
    """Squared Fréchet distance |μ − ν|² + tr(Σ + T − 2 (ΣT)^½): FID, if the features are Inception's.

    Biased upwards for few images, the more the more features there are. Compare only at equal counts.

    Args:
        real: (count, features).
        synthetic: (others, features).

    Raises:
        TooFewImagesError: a set of one.

    Example:
        >>> two = torch.tensor([[-1.0], [1.0]])
        >>> round(frechet_distance(two, two + 3), 6)
        9.0
    """
    check_same_features(real, synthetic)
    if min(len(real), len(synthetic)) < 2:
        raise TooFewImagesError("A Fréchet distance needs at least 2 images in each set: one has no covariance.")
    (mean_a, root_a), (mean_b, root_b) = _mean_and_root(real), _mean_and_root(synthetic)
    cross = torch.linalg.svdvals(root_a @ root_b.T).sum()
    distance = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * cross
    return max(0.0, float(distance))


def frechet_infinity(real: Tensor, synthetic: Tensor) -> float:
    """Fréchet distance extrapolated to infinitely many images: the intercept of a line through its values over 1/count.

    The counts run from half of the smaller set to all of it, evenly in 1/count (Chong, Forsyth 2020, section 3). The
    subsets are a fixed shuffle. Real against real gives about 0, and may come out negative.

    Args:
        real: (count, features).
        synthetic: (others, features).

    Raises:
        TooFewImagesError: fewer than 20 images in a set.
    """
    check_same_features(real, synthetic)
    most = min(len(real), len(synthetic))
    if most < 20:
        raise TooFewImagesError(f"FID∞ needs at least 20 images in each set to extrapolate from, got {most}.")
    counts = sorted({round(1 / inverse) for inverse in np.linspace(1 / most, 2 / most, _SIZES)})
    distances = []
    for number, count in enumerate(counts):
        rows_a, rows_b = (
            torch.from_numpy(seeding.permutation(2 * number + side, len(each))[:count].copy())
            for side, each in enumerate((real, synthetic))
        )
        distances.append(frechet_distance(real[rows_a], synthetic[rows_b]))
    return float(np.polyfit(1 / np.array(counts), distances, 1)[1])


def _mean_and_root(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and a matrix R of at most as many rows as features with RᵀR = covariance; float64, one block at a time."""
    count, width = features.shape
    mean = torch.stack([features[rows].double().sum(0) for rows in row_blocks(count)]).sum(0) / count
    root = torch.empty((0, width), dtype=torch.float64, device=features.device)
    for rows in row_blocks(count):
        root = torch.cat([root, features[rows].double() - mean])
        if len(root) > width:
            root = torch.linalg.qr(root, mode="r").R
    return mean, root / math.sqrt(count - 1)


def _too_few(count: int, width: int) -> str | None:
    if count > width:
        return None
    return (
        f"{count} images for {width} features: the covariance has no full rank and the distance is mostly bias; read "
        "it against floor and ceiling only"
    )


FID = SetMeasure(
    "FID",
    frechet_distance,
    "lower",
    (0, math.inf),
    "Heusel et al. 2017",
    caution=_too_few,
)
FID_INFINITY = SetMeasure(
    "FID∞",
    frechet_infinity,
    "lower",
    (-math.inf, math.inf),
    "Chong, Forsyth 2020",
    minimum=20,
    caution=lambda count, width: _too_few(count // 2, width),
)
