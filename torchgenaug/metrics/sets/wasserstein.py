"""Wasserstein distances between two sets of vectors: exact, and the mean over one-dimensional projections.

References:
    Villani (2009). Optimal transport: old and new. Springer, definition 6.1.
    Crouse (2016). On implementing 2D rectangular assignment algorithms. IEEE Trans. AES 52, 1679 (scipy's algorithm).
    Bonneel, Rabin, Peyré, Pfister (2015). Sliced and Radon Wasserstein barycenters of measures. J. Math. Imaging Vis.
        51, 22.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.distances import check_same_features, squared_distances
from torchgenaug.metrics.sets.measure import SetMeasure

_MOST = 4000
_DIRECTIONS = 128
_AT_ONCE = 16  # directions: 10⁵ vectors projected on all of them would take 200 MB


def wasserstein(real: Tensor, synthetic: Tensor) -> float:
    """Wasserstein-1 distance with Euclidean cost: the mean distance in the best one-to-one assignment.

    Exact; time grows with the cube of the count (0.1 s for 500). Biased upwards for few images in many dimensions.

    Args:
        real: (count, features), at most 4,000.
        synthetic: (count, features).

    Raises:
        ConfigurationError: unequal counts, or too many.
    """
    from scipy.optimize import linear_sum_assignment

    check_same_features(real, synthetic)
    if len(real) != len(synthetic) or len(real) > _MOST:
        raise ConfigurationError(
            f"Both sets must hold as many images, at most {_MOST}, got {len(real)} and {len(synthetic)}. The exact "
            "assignment is one to one. Cut both to one size, or use `sliced_wasserstein`."
        )
    centre = real.double().mean(0)
    cost = squared_distances(real.double() - centre, synthetic.double() - centre).sqrt().cpu().numpy()
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())


def sliced_wasserstein(real: Tensor, synthetic: Tensor, *, directions: int = _DIRECTIONS, seed: int = 0) -> float:
    """Mean over random directions of the Wasserstein-1 distance between the projections; exact along each.

    Args:
        real: (count, features).
        synthetic: (others, features); as many or not.
        directions: random unit vectors.
        seed: decides them.
    """
    check_same_features(real, synthetic)
    width = real.shape[1]
    units = seeding.normal(seeding.derive(seed, range(directions)), (width,)).to(real)
    units = units / units.norm(dim=1, keepdim=True)
    total = 0.0
    for few in units.split(_AT_ONCE):
        total += float(_wasserstein_1d(real @ few.T, synthetic @ few.T).sum())
    return total / directions


def _wasserstein_1d(a: Tensor, b: Tensor) -> Tensor:
    """∫|F − G| per column: (columns,) of (count, columns) and (others, columns)."""
    values, order = torch.cat([a, b]).double().sort(0)
    from_a = order < len(a)
    gap = from_a.cumsum(0) / len(a) - (~from_a).cumsum(0) / len(b)
    return (gap[:-1].abs() * values.diff(dim=0)).sum(0)


def _caution(count: int, width: int) -> str | None:
    if width <= 10:
        return None
    return f"in {width} dimensions {count} images are far apart whatever their distribution; read it against the floor"


WASSERSTEIN = SetMeasure(
    "Wasserstein", wasserstein, "lower", (0, math.inf), "Villani 2009", largest_n=500, caution=_caution
)
SLICED_WASSERSTEIN = SetMeasure(
    "sliced Wasserstein", sliced_wasserstein, "lower", (0, math.inf), "Bonneel et al. 2015", largest_n=5000
)
