"""Vendi score: how many different images a set holds, in effect.

References:
    Friedman, Dieng (2023). The Vendi Score: a diversity evaluation metric for machine learning. TMLR.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchgenaug.errors import TooFewImagesError
from torchgenaug.metrics.distances import row_blocks
from torchgenaug.metrics.sets.measure import SetMeasure


def vendi_score(features: Tensor) -> float:
    """Exp of the entropy of the eigenvalues of the cosine similarities over the count: 1 for copies, count at most.

    Args:
        features: (count, features). Its memory is the square of the smaller of the two.

    Raises:
        TooFewImagesError: no images.

    Example:
        >>> round(vendi_score(torch.eye(4)), 6), round(vendi_score(torch.ones(4, 4)), 6)
        (4.0, 1.0)
    """
    if not len(features):
        raise TooFewImagesError("The Vendi score needs at least 1 image, got none.")
    count, width = features.shape
    if count <= width:
        unit = _unit(features)
        similarity = unit @ unit.T
    else:
        # The eigenvalues of X Xᵀ other than 0 are those of Xᵀ X.
        blocks = (_unit(features[rows]) for rows in row_blocks(count))
        similarity = torch.stack([block.T @ block for block in blocks]).sum(0)
    shares = torch.linalg.eigvalsh(similarity / count).clamp(min=0)
    return math.exp(-float(torch.xlogy(shares, shares).sum()))


def _unit(features: Tensor) -> Tensor:
    features = features.double()
    lengths = features.norm(dim=1, keepdim=True)
    # A vector of zeros has no direction: all such images count as one, in a direction of their own.
    own = (lengths == 0).double()
    return torch.cat([features / (lengths + own), own], 1)


VENDI = SetMeasure(
    "Vendi score",
    lambda real, synthetic: vendi_score(synthetic),
    "higher",
    (1, math.inf),
    "Friedman, Dieng 2023",
    largest_n=500,
)
