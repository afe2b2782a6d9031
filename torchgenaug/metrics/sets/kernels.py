"""Maximum mean discrepancy with several kernels; KID is one of them.

References:
    Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012). A kernel two-sample test. JMLR 13, 723 (lemma 6).
    Bińkowski, Sutherland, Arbel, Gretton (2018). Demystifying MMD GANs. ICLR (KID).
    Székely, Rizzo (2013). Energy statistics. J. Stat. Plan. Inference 143, 1249.
    Sejdinovic, Sriperumbudur, Gretton, Fukumizu (2013). Equivalence of distance-based and RKHS-based statistics. Ann.
        Stat. 41, 2263.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgenaug.errors import TooFewImagesError
from torchgenaug.metrics.distances import check_same_features, row_blocks, squared_distances
from torchgenaug.metrics.sets.measure import SetMeasure

Kernel = Callable[[Tensor, Tensor], Tensor]
"""(rows, features), (columns, features) → (rows, columns)."""

_FOR_MEDIAN = 1000


@dataclass(frozen=True, slots=True)
class PolynomialKernel:
    """(x·y / features + 1)^degree; with degree 3 that of KID."""

    degree: int = 3

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Kernel matrix (rows of a, rows of b)."""
        return (a @ b.T / a.shape[1] + 1) ** self.degree


@dataclass(frozen=True, slots=True)
class GaussianKernel:
    """Mean over `bandwidths` σ of exp(−|x − y|² / 2σ²)."""

    bandwidths: tuple[float, ...]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Kernel matrix (rows of a, rows of b)."""
        distances = squared_distances(a, b)
        total = torch.zeros_like(distances)
        for width in self.bandwidths:
            total += (distances / (-2 * width**2)).exp_()
        return total / len(self.bandwidths)


@dataclass(frozen=True, slots=True)
class EnergyKernel:
    """−|x − y|: its MMD² is the energy distance; it has no parameter to choose."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Kernel matrix (rows of a, rows of b)."""
        return -squared_distances(a, b).sqrt()


def mmd(real: Tensor, synthetic: Tensor, kernel: Kernel) -> float:
    """Squared maximum mean discrepancy, unbiased: 0 on average for equal distributions, so it may be negative.

    Args:
        real: (count, features).
        synthetic: (others, features); as many or not.
        kernel: for example `GaussianKernel`.

    Raises:
        TooFewImagesError: a set of one.
    """
    check_same_features(real, synthetic)
    if min(len(real), len(synthetic)) < 2:
        raise TooFewImagesError("MMD needs at least 2 images in each set, got one.")
    centre = 0 if isinstance(kernel, PolynomialKernel) else real.double().mean(0)
    within = sum(_mean_within(each, kernel, centre) for each in (real, synthetic))
    return within - 2 * _sum_between(real, synthetic, kernel, centre) / (len(real) * len(synthetic))


def kernel_inception_distance(real: Tensor, synthetic: Tensor) -> float:
    """KID: squared MMD with the polynomial kernel of degree 3; unbiased at any number of images."""
    return mmd(real, synthetic, PolynomialKernel())


def gaussian_mmd(real: Tensor, synthetic: Tensor) -> float:
    """Squared MMD with Gaussian kernels of ½, 1 and 2 times the median distance between real images."""
    median = median_distance(real)
    return mmd(real, synthetic, GaussianKernel((median / 2, median, median * 2)))


def energy_distance(real: Tensor, synthetic: Tensor) -> float:
    """Energy distance 2 E|x − y| − E|x − x'| − E|y − y'|, unbiased."""
    return mmd(real, synthetic, EnergyKernel())


def median_distance(features: Tensor) -> float:
    """Median Euclidean distance between the rows, of at most 1,000 of them; 1 where they are all equal."""
    few = features[:: max(1, math.ceil(len(features) / _FOR_MEDIAN))].double()
    few = few - few.mean(0)  # the matrix product is exact enough around 0
    above = torch.ones((len(few), len(few)), dtype=torch.bool).triu(1)
    return float(squared_distances(few, few)[above].median().sqrt()) or 1.0


def _mean_within(features: Tensor, kernel: Kernel, centre: Tensor | int) -> float:
    count = len(features)
    diagonal = 0.0
    for rows in row_blocks(count, 64):
        block = features[rows].double() - centre
        diagonal += float(kernel(block, block).diagonal().sum())
    return (_sum_between(features, features, kernel, centre) - diagonal) / (count * (count - 1))


def _sum_between(a: Tensor, b: Tensor, kernel: Kernel, centre: Tensor | int) -> float:
    return sum(
        float(kernel(a[rows].double() - centre, b[columns].double() - centre).sum())
        for rows in row_blocks(len(a))
        for columns in row_blocks(len(b))
    )


KID = SetMeasure(
    "KID",
    kernel_inception_distance,
    "lower",
    (-math.inf, math.inf),
    "Bińkowski et al. 2018",
    largest_n=1000,
)
MMD = SetMeasure("MMD", gaussian_mmd, "lower", (-2.0, 2.0), "Gretton et al. 2012", largest_n=1000)
ENERGY_DISTANCE = SetMeasure(
    "energy distance", energy_distance, "lower", (-math.inf, math.inf), "Székely, Rizzo 2013", largest_n=1000
)
