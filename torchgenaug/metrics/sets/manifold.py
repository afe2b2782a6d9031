"""Precision, recall, density and coverage: whether synthetic images lie among the real ones, and reach all of them.

References:
    Kynkäänniemi, Karras, Laine, Lehtinen, Aila (2019). Improved precision and recall metric for assessing generative
        models. NeurIPS.
    Naeem, Oh, Uh, Choi, Yoo (2020). Reliable fidelity and diversity metrics for generative models. ICML.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torchgenaug.errors import TooFewImagesError
from torchgenaug.metrics.distances import check_same_features, nearest, row_blocks, squared_distances
from torchgenaug.metrics.sets.measure import SetMeasure


class Manifold(NamedTuple):
    """Four numbers of one pass over the distances.

    Attributes:
        precision: fraction of synthetic images inside a ball of a real one; falls with blur and artefacts.
        recall: fraction of real images inside a ball of a synthetic one; falls when modes are missing.
        density: how many balls of real images a synthetic one lies in, over k; falls as precision does, and does not
            count an image as good for lying near one real outlier.
        coverage: fraction of real images whose ball holds a synthetic one; falls when modes are missing.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(real: Tensor, synthetic: Tensor, k: int = 5) -> Manifold:
    """Precision, recall, density and coverage; the ball of an image reaches to its k-th neighbour in its own set.

    Memory is bounded: distances are computed in blocks.

    Args:
        real: (count, features).
        synthetic: (others, features).
        k: neighbours; 5 as in Naeem et al. 2020 (Kynkäänniemi et al. 2019 used 3).

    Raises:
        TooFewImagesError: a set of at most `k` images.
    """
    check_same_features(real, synthetic)
    if min(len(real), len(synthetic)) <= k:
        raise TooFewImagesError(
            f"Precision and recall with k={k} need more than {k} images in each set, got {len(real)} and "
            f"{len(synthetic)}. Generate more, or pass a smaller k."
        )
    centre = real.mean(0)
    real, synthetic = real - centre, synthetic - centre
    real_balls, synthetic_balls = (
        nearest(each, each, k, exclude_self=True).distances[:, -1].square() for each in (real, synthetic)
    )
    closest = torch.full((len(real),), torch.inf, device=real.device)
    reached = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    hits = torch.zeros(len(synthetic), dtype=torch.int64, device=real.device)
    for rows in row_blocks(len(synthetic)):
        for columns in row_blocks(len(real)):
            distances = squared_distances(synthetic[rows], real[columns])
            hits[rows] += (distances < real_balls[columns]).sum(1)
            reached[columns] |= (distances < synthetic_balls[rows, None]).any(0)
            closest[columns] = torch.minimum(closest[columns], distances.amin(0))
    return Manifold(
        precision=float((hits > 0).double().mean()),
        recall=float(reached.double().mean()),
        density=float(hits.double().mean() / k),
        coverage=float((closest < real_balls).double().mean()),
    )


def _measure(output: str, upper: float, source: str) -> SetMeasure:
    return SetMeasure(
        output,
        manifold_scores,
        "higher",
        (0, upper),
        source,
        output=output,
        minimum=6,
        largest_n=1000,
        caution=_caution,
    )


def _caution(count: int, width: int) -> str | None:
    return (
        f"{count} images: balls of {count} points cover little; differences below 0.1 mean nothing"
        if count < 50
        else None
    )


PRECISION = _measure("precision", 1, "Kynkäänniemi et al. 2019")
RECALL = _measure("recall", 1, "Kynkäänniemi et al. 2019")
DENSITY = _measure("density", math.inf, "Naeem et al. 2020")
COVERAGE = _measure("coverage", 1, "Naeem et al. 2020")
