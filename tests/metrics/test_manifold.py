from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug.errors import TooFewImagesError
from torchgenaug.metrics import distances
from torchgenaug.metrics.sets.manifold import manifold_scores


def gaussian(count: int, width: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def by_the_papers(real: np.ndarray, synthetic: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Written after the formulas of Naeem et al. 2020, equations 3 to 6, with full matrices."""

    def radius(points):
        within = np.linalg.norm(points[:, None] - points[None], axis=2)
        return np.sort(within, 1)[:, k]

    between = np.linalg.norm(real[:, None] - synthetic[None], axis=2)
    in_real = between < radius(real)[:, None]
    precision = in_real.any(0).mean()
    recall = (between < radius(synthetic)[None]).any(1).mean()
    density = in_real.sum(0).mean() / k
    coverage = (between.min(1) < radius(real)).mean()
    return precision, recall, density, coverage


@pytest.mark.parametrize("block", [7, 4096])
def test_agrees_with_the_papers(monkeypatch, block):
    monkeypatch.setattr(distances.row_blocks, "__defaults__", (block,))
    real, synthetic = gaussian(40), gaussian(30, seed=1) * 1.2 + 0.4
    assert manifold_scores(real, synthetic, 3) == pytest.approx(
        by_the_papers(real.double().numpy(), synthetic.double().numpy(), 3)
    )


def test_dropped_modes_show_in_recall_and_coverage_alone():
    centres = torch.arange(4.0)[:, None] * 50
    real = torch.cat([gaussian(50, seed=mode) + centres[mode] for mode in range(4)])
    whole = torch.cat([gaussian(50, seed=10 + mode) + centres[mode] for mode in range(4)])
    half = torch.cat([gaussian(100, seed=20 + mode) + centres[mode] for mode in range(2)])
    complete, dropped = manifold_scores(real, whole), manifold_scores(real, half)
    assert dropped.recall < 0.55 < complete.recall
    assert dropped.coverage < 0.55 < complete.coverage
    assert dropped.precision == pytest.approx(complete.precision, abs=0.1)
    assert dropped.density == pytest.approx(complete.density, abs=0.15)


def test_outliers_show_in_precision_and_density():
    real, good = gaussian(200), gaussian(200, seed=1)
    spoilt = torch.cat([good[:100], good[100:] + 30])
    assert manifold_scores(real, spoilt).precision < 0.55 < manifold_scores(real, good).precision
    assert manifold_scores(real, spoilt).density < 0.6 < manifold_scores(real, good).density


def test_more_than_k_images():
    with pytest.raises(TooFewImagesError, match="more than 5 images"):
        manifold_scores(gaussian(5), gaussian(9))
