from __future__ import annotations

import pytest
import torch
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.sets.one_nearest import one_nearest_neighbour


def gaussian(count: int, width: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_agrees_with_scikit_learn():
    real, synthetic = gaussian(30), gaussian(30, seed=1) + 0.8
    labels = [0] * 30 + [1] * 30
    scores = cross_val_score(
        KNeighborsClassifier(1, algorithm="brute"), torch.cat([real, synthetic]).numpy(), labels, cv=LeaveOneOut()
    )
    found = one_nearest_neighbour(real, synthetic)
    assert found.accuracy == pytest.approx(scores.mean())
    assert found.real == pytest.approx(scores[:30].mean())


def test_equal_apart_collapsed_and_copied():
    real = gaussian(300)
    assert one_nearest_neighbour(real, gaussian(300, seed=1)).accuracy == pytest.approx(0.5, abs=0.08)
    assert one_nearest_neighbour(real, gaussian(300, seed=1) + 100).accuracy == 1
    assert one_nearest_neighbour(real, real + 1e-3).accuracy < 0.01
    collapsed = one_nearest_neighbour(real, gaussian(300, seed=1) * 1e-3)
    assert collapsed.synthetic > 0.99


def test_unequal_sets_are_refused():
    with pytest.raises(ConfigurationError, match="got 5 and 4"):
        one_nearest_neighbour(gaussian(5), gaussian(4))
