"""Kullback–Leibler divergence: of pooled intensities, and of features by their nearest neighbours.

References:
    Kullback, Leibler (1951). On information and sufficiency. Ann. Math. Stat. 22, 79.
    Wang, Kulkarni, Verdú (2009). Divergence estimation for multidimensional densities via k-nearest-neighbor distances.
        IEEE Trans. Inf. Theory 55, 2392, equation 5.
    Lin (1991). Divergence measures based on the Shannon entropy. IEEE Trans. Inf. Theory 37, 145 (Jensen–Shannon).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from torchgenaug.errors import TooFewImagesError
from torchgenaug.metrics.distances import check_same_features, nearest
from torchgenaug.metrics.sets.measure import SetMeasure
from torchgenaug.metrics.sets.probabilities import check_shares, discrete_kl

_EMPTY = 1e-6  # added to each bin: an empty one would make the divergence infinite
_SAME = 1e-12  # smallest distance: equal vectors would make it infinite


class HistogramDivergence(NamedTuple):
    """Divergences between the pooled histograms of two sets, in nats.

    Attributes:
        forward: KL(real ‖ synthetic): large where real intensities are missing.
        reverse: KL(synthetic ‖ real): large where intensities were invented. Not the same number.
        jensen_shannon: symmetric, at most log 2.
        wasserstein: mean distance that intensity has to move, as a fraction of the value range, to within a bin.
    """

    forward: float
    reverse: float
    jensen_shannon: float
    wasserstein: float


def histogram_divergence(real: Tensor, synthetic: Tensor) -> HistogramDivergence:
    """Divergences between the mean histograms of two sets: for `HistogramFeatures`.

    A share of 10⁻⁶ is added to each bin, so a bin that one set lacks costs much but not infinitely much.

    Args:
        real: (count, bins), each row sums to 1.
        synthetic: (others, bins).

    Raises:
        ConfigurationError: rows that are no shares.
    """
    check_same_features(real, synthetic)
    p, q = (check_shares(each).mean(0) + _EMPTY for each in (real, synthetic))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return HistogramDivergence(
        discrete_kl(p, q),
        discrete_kl(q, p),
        (discrete_kl(p, middle) + discrete_kl(q, middle)) / 2,
        float((p - q).cumsum(0).abs().mean()),
    )


def neighbour_divergence(real: Tensor, synthetic: Tensor, k: int = 5) -> float:
    """KL(real ‖ synthetic) in nats, estimated from distances to the k-th neighbours; no density is fitted.

    Consistent, but slow to converge in many dimensions, where it may be negative. Infinite divergences (synthetic
    images on a thin sheet) come out large and finite.

    Args:
        real: (count, features).
        synthetic: (others, features).
        k: neighbours; more lower the variance and raise the bias.

    Raises:
        TooFewImagesError: at most `k` images in a set.
    """
    check_same_features(real, synthetic)
    if min(len(real) - 1, len(synthetic)) < k:
        raise TooFewImagesError(
            f"The divergence with k={k} needs more than {k} images in each set, got {len(real)} and {len(synthetic)}."
        )
    within = nearest(real, real, k, exclude_self=True).distances[:, -1].double().clamp(min=_SAME)
    across = nearest(real, synthetic, k).distances[:, -1].double().clamp(min=_SAME)
    ways = float((across / within).log().mean())
    return real.shape[1] * ways + math.log(len(synthetic) / (len(real) - 1))


def _too_many_dimensions(count: int, width: int) -> str | None:
    if width <= 20:
        return None
    return f"a density in {width} dimensions cannot be estimated from {count} images; read it against the floor"


def _of_histograms(name: str, output: str, upper: float, source: str) -> SetMeasure:
    return SetMeasure(name, histogram_divergence, "lower", (0, upper), source, output=output)


KLD = _of_histograms("KLD", "forward", math.inf, "Kullback, Leibler 1951")
REVERSE_KLD = _of_histograms("reverse KLD", "reverse", math.inf, "Kullback, Leibler 1951")
JENSEN_SHANNON = _of_histograms("Jensen–Shannon", "jensen_shannon", math.log(2), "Lin 1991")
INTENSITY_WASSERSTEIN = _of_histograms("Wasserstein", "wasserstein", 1, "Villani 2009")
FEATURE_KLD = SetMeasure(
    "KLD",
    neighbour_divergence,
    "lower",
    (-math.inf, math.inf),
    "Wang, Kulkarni, Verdú 2009",
    minimum=6,
    largest_n=1000,
    caution=_too_many_dimensions,
)
