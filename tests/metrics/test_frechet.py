from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from torchgenaug.errors import TooFewImagesError
from torchgenaug.metrics.sets.frechet import FID, frechet_distance, frechet_infinity


def gaussian(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exactly(features: torch.Tensor, mean: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """The rows moved and stretched to have exactly this mean, and root · rootᵀ as covariance."""
    centred = features - features.mean(0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(centred.T))).T
    return mean + white @ root.T


def test_closed_form_of_gaussians():
    """For commuting covariances the distance is |μ − ν|² + Σ (σᵢ − τᵢ)²."""
    sigma, tau = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 1.0, 0.5]).double()
    shift = torch.tensor([1.0, -2.0, 0.0]).double()
    real = exactly(gaussian(40, 3), torch.zeros(3).double(), torch.diag(sigma))
    synthetic = exactly(gaussian(60, 3, 1), shift, torch.diag(tau))
    assert frechet_distance(real, synthetic) == pytest.approx(5 + 4 + 1)


@pytest.mark.parametrize(("count", "width"), [(200, 12), (9, 30), (5000, 3)])
def test_agrees_with_the_matrix_square_root(count, width):
    real, synthetic = gaussian(count, width) @ gaussian(width, width, 2), gaussian(count + 4, width, 1) + 0.3
    covariances = [np.cov(each.numpy(), rowvar=False) for each in (real, synthetic)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    expected = (real.mean(0) - synthetic.mean(0)).square().sum() + np.trace(
        covariances[0] + covariances[1] - 2 * root.real
    )
    assert frechet_distance(real, synthetic) == pytest.approx(float(expected), rel=1e-6)


def test_identical_sets_have_none():
    features = gaussian(50, 8).float()
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_infinity_removes_the_bias_of_few_images():
    real, synthetic = gaussian(400, 40), gaussian(400, 40, 1)
    assert frechet_distance(real, synthetic) > 1.5  # the true distance is 0
    assert abs(frechet_infinity(real, synthetic)) < 0.3


def test_infinity_keeps_the_true_distance():
    assert frechet_infinity(gaussian(2000, 10), gaussian(2000, 10, 1) + 1) == pytest.approx(10, abs=0.8)


def test_too_few_images():
    with pytest.raises(TooFewImagesError, match="at least 2"):
        frechet_distance(gaussian(1, 3), gaussian(5, 3))
    with pytest.raises(TooFewImagesError, match="at least 20"):
        frechet_infinity(gaussian(19, 3), gaussian(50, 3))


def test_caution_below_the_number_of_features():
    assert "25 images for 64 features" in FID.caution(25, 64)
    assert FID.caution(65, 64) is None
