from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from torchgenaug.errors import TooFewImagesError
from torchgenaug.metrics.sets.classifier import TWO_SAMPLE_AUC, _ridge_scores, two_sample_auc


def gaussian(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_the_best_linear_classifier_of_gaussians():
    """Two unit Gaussians a shift d apart: the best AUC is Φ(d/√2)."""
    found = two_sample_auc(gaussian(1000, 2), gaussian(1000, 2, 1) + torch.tensor([1.0, 0.0]))
    assert found == pytest.approx(NormalDist().cdf(1 / math.sqrt(2)), abs=0.03)


@pytest.mark.parametrize("width", [5, 200])
def test_chance_for_equal_distributions(width):
    values = [two_sample_auc(gaussian(30, width, 2 * s), gaussian(30, width, 2 * s + 1)) for s in range(30)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.04)


def test_the_form_for_more_features_than_images_is_ridge_regression():
    features, labels, others = gaussian(18, 19).double(), torch.arange(18) % 2, gaussian(7, 19, 1).double()
    mean, spread = features.mean(0), features.std(0)
    x, y = (features - mean) / spread, torch.where(labels == 1, 1 / 9, -1 / 9).double()
    ridge = 0.1 * x.square().sum() / 18 * torch.eye(19).double()
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    torch.testing.assert_close(_ridge_scores(features, labels, others), (others - mean) / spread @ weights)


def test_few_images_are_refused():
    with pytest.raises(TooFewImagesError, match="at least 4"):
        two_sample_auc(gaussian(3, 2), gaussian(9, 2))


def test_the_caution_names_the_scatter_of_chance():
    values = [two_sample_auc(gaussian(20, 3, 2 * s), gaussian(20, 3, 2 * s + 1)) for s in range(60)]
    assert TWO_SAMPLE_AUC.caution(20, 3) == "chance alone moves the AUC of 20 images by 0.18"
    assert 1.96 * np.std(values) == pytest.approx(0.18, abs=0.07)
    assert TWO_SAMPLE_AUC.caution(30, 3) is None
