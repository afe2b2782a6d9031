from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.image.inception import InceptionScore

from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.sets.probabilities import INCEPTION_SCORE, inception_score, mode_score


def random_probabilities(count: int, classes: int, seed: int = 0) -> torch.Tensor:
    return (3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))).softmax(1)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save", "ignore:std\\(\\)")
def test_inception_score_is_that_of_torchmetrics():
    logits = 3 * torch.randn(40, 7, generator=torch.Generator().manual_seed(0))

    class Logits(torch.nn.Module):
        num_features = 7

        def forward(self, images):
            return logits

    theirs = InceptionScore(feature=Logits(), splits=1)
    theirs.update(torch.zeros(40, 3, 8, 8, dtype=torch.uint8))
    assert inception_score(logits.softmax(1)) == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


def test_extremes():
    assert inception_score(torch.full((8, 4), 0.25)) == pytest.approx(1)
    assert inception_score(torch.eye(4)[[0] * 8]) == pytest.approx(1)
    assert inception_score(torch.eye(4).repeat(3, 1)) == pytest.approx(4)


def test_mode_score_falls_with_the_wrong_shares_of_classes():
    """Sure of half of 4 classes: IS 2, KL(synthetic ‖ real) = log 2, so exp(log 2 − log 2) = 1."""
    real = torch.eye(4)
    assert mode_score(real, real) == pytest.approx(4)
    assert mode_score(real, torch.eye(4)[:2]) == pytest.approx(1)
    assert mode_score(torch.eye(4)[:2], real) == 0
    p, q = random_probabilities(30, 5), random_probabilities(20, 5, 1)
    shift = sum(b * math.log(b / a) for a, b in zip(p.mean(0).tolist(), q.mean(0).tolist(), strict=True))
    assert mode_score(p, q) == pytest.approx(inception_score(q) * math.exp(-shift), rel=1e-5)


def test_logits_are_refused():
    with pytest.raises(ConfigurationError, match="softmax"):
        inception_score(torch.randn(4, 5))
    assert "4 images for 5 classes" in INCEPTION_SCORE.caution(4, 5)
