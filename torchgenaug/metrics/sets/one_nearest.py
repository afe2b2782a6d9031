"""Leave-one-out 1-nearest-neighbour accuracy: whether the nearest image of an image is of its own set.

References:
    Lopez-Paz, Oquab (2017). Revisiting classifier two-sample tests. ICLR.
    Xu et al. (2018). An empirical study on evaluation metrics of generative adversarial networks. arXiv:1806.07755.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.distances import check_same_features, nearest
from torchgenaug.metrics.sets.measure import SetMeasure


class OneNearest(NamedTuple):
    """Fractions whose nearest other image is of the own set.

    Attributes:
        accuracy: of all images; 0.5 for equal distributions, 1 for sets apart, below 0.5 if synthetic images lie closer
            to real ones than real ones do to each other, as copies do.
        real: of real images; low where synthetic images crowd around them.
        synthetic: of synthetic images; high if the model collapsed onto few images.
    """

    accuracy: float
    real: float
    synthetic: float


def one_nearest_neighbour(real: Tensor, synthetic: Tensor) -> OneNearest:
    """1-NN accuracy between two sets of equal size.

    Args:
        real: (count, features).
        synthetic: (count, features).

    Raises:
        ConfigurationError: sets of unequal size: the larger one would be nearest more often.
    """
    check_same_features(real, synthetic)
    if len(real) != len(synthetic):
        raise ConfigurationError(
            f"Both sets must hold as many images, got {len(real)} and {len(synthetic)}. The larger set would be "
            "nearest more often. Cut both to the smaller size, for example real[: len(synthetic)]."
        )
    neighbours = nearest(pooled := torch.cat([real, synthetic]), pooled, exclude_self=True).indices[:, 0]
    own = (neighbours < len(real)) == (torch.arange(len(pooled), device=pooled.device) < len(real))
    of_real, of_synthetic = (float(part.double().mean()) for part in (own[: len(real)], own[len(real) :]))
    return OneNearest((of_real + of_synthetic) / 2, of_real, of_synthetic)


ONE_NEAREST_NEIGHBOUR = SetMeasure(
    "1-NN accuracy",
    one_nearest_neighbour,
    "lower",
    (0, 1),
    "Lopez-Paz, Oquab 2017",
    output="accuracy",
    largest_n=1000,
)
