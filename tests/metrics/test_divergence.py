from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torchmetrics.functional import kl_divergence

from torchgenaug.errors import ConfigurationError, TooFewImagesError
from torchgenaug.metrics.features.histogram import HistogramFeatures
from torchgenaug.metrics.sets.divergence import histogram_divergence, neighbour_divergence


def gaussian(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_histogram_divergence_is_that_of_torchmetrics_in_both_directions():
    p, q = torch.tensor([[0.1, 0.2, 0.7]]).double(), torch.tensor([[0.5, 0.3, 0.2]]).double()
    found = histogram_divergence(p, q)
    assert found.forward == pytest.approx(float(kl_divergence(p, q)), rel=1e-4)
    assert found.reverse == pytest.approx(float(kl_divergence(q, p)), rel=1e-4)
    assert found.forward != pytest.approx(found.reverse, rel=0.05)
    assert found.jensen_shannon == pytest.approx(
        scipy.stats.entropy(p[0], (p + q)[0] / 2) / 2 + scipy.stats.entropy(q[0], (p + q)[0] / 2) / 2, rel=1e-4
    )
    expected = scipy.stats.wasserstein_distance([0, 1, 2], [0, 1, 2], p[0], q[0]) / 3
    assert found.wasserstein == pytest.approx(expected, rel=1e-4)


def test_missing_intensities_cost_much_but_not_infinitely():
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
    found = histogram_divergence(p, q)
    assert 5 < found.forward < 10
    assert found.reverse == pytest.approx(math.log(2), rel=1e-3)
    assert histogram_divergence(p, p) == pytest.approx((0, 0, 0, 0), abs=1e-9)


def test_rows_that_are_no_shares_are_refused():
    with pytest.raises(ConfigurationError, match="rows that are probabilities"):
        histogram_divergence(torch.ones(3, 4), torch.ones(3, 4))


@pytest.mark.parametrize("width", [1, 3])
def test_neighbour_divergence_of_gaussians_in_closed_form(width):
    """KL(N(0, I) ‖ N(μ, σ²I)) = d (log σ + (1 + μ²) / (2σ²) − ½) with the same μ in each dimension."""
    mean, sigma = 0.7, 1.5
    expected = width * (math.log(sigma) + (1 + mean**2) / (2 * sigma**2) - 0.5)
    found = np.mean(
        [neighbour_divergence(gaussian(2000, width, s), gaussian(2000, width, 9 + s) * sigma + mean) for s in range(4)]
    )
    assert found == pytest.approx(expected, abs=0.06)


def test_neighbour_divergence_of_equal_distributions_and_copies():
    assert neighbour_divergence(gaussian(1000, 2), gaussian(1000, 2, 1)) == pytest.approx(0, abs=0.12)
    assert math.isfinite(neighbour_divergence(torch.zeros(20, 2), torch.zeros(20, 2)))
    with pytest.raises(TooFewImagesError, match="more than 5"):
        neighbour_divergence(gaussian(5, 2), gaussian(9, 2))


def test_histogram_features_agree_with_numpy():
    images = torch.rand(3, 2, 5, 6, 4, generator=torch.Generator().manual_seed(0))
    found = HistogramFeatures(8)(images)
    for row, image in zip(found, images, strict=True):
        np.testing.assert_allclose(row, np.histogram(image.flatten(), 8, (0, 1))[0] / image.numel(), rtol=1e-6)
    assert HistogramFeatures(8)(torch.tensor([[[[-1.0, 2.0]]]])).tolist() == [[0.5, 0, 0, 0, 0, 0, 0, 0.5]]
    with pytest.raises(ConfigurationError, match="at least 2"):
        HistogramFeatures(1)
