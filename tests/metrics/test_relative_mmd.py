from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError, TooFewImagesError
from torchgenaug.metrics import distances, relative_mmd_test
from torchgenaug.metrics.sets.kernels import GaussianKernel, mmd


def gaussian(count: int, width: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_the_nearer_set_is_found():
    real = gaussian(200)
    near, far = gaussian(200, seed=1) + 0.2, gaussian(200, seed=2) + 0.8
    assert relative_mmd_test(real, far, near).p_value < 1e-4
    assert relative_mmd_test(real, near, far).p_value > 0.999


def test_the_difference_is_that_of_two_mmds_without_the_pairs_of_one_index(monkeypatch):
    monkeypatch.setattr(distances.row_blocks, "__defaults__", (7,))
    real, first, second = gaussian(60), gaussian(60, seed=1) + 0.5, gaussian(60, seed=2)
    kernel = GaussianKernel((1.5,))
    found = relative_mmd_test(real, first, second, kernel=kernel)
    x, first, second = (
        each[torch.from_numpy(seeding.permutation(key, 60).copy())].double()
        for key, each in enumerate((real, first, second))
    )
    others = 1 - torch.eye(60)
    terms = [((kernel(y, y) - 2 * kernel(x, y)) * others).sum() for y in (first, second)]
    assert found.difference == pytest.approx(float(terms[0] - terms[1]) / (60 * 59), rel=1e-6)
    assert found.difference == pytest.approx(mmd(real, first, kernel) - mmd(real, second, kernel), abs=0.01)


def test_false_alarms_are_as_rare_as_stated():
    """Two models that are equally far: p below 0.05 in about 5 % of trials."""
    alarms = 0
    for trial in range(200):
        real, first, second = (gaussian(60, 2, 3 * trial + part) + (part > 0) for part in range(3))
        alarms += relative_mmd_test(real, first, second, kernel=GaussianKernel((1.0,))).p_value < 0.05
    assert 2 <= alarms <= 22


def test_the_standard_error_is_that_of_repetition():
    results = [
        relative_mmd_test(*(gaussian(80, 2, 3 * t + part) + part for part in range(3)), kernel=GaussianKernel((1.0,)))
        for t in range(80)
    ]
    spread = np.std([each.difference for each in results])
    assert np.mean([each.standard_error for each in results]) == pytest.approx(spread, rel=0.25)


def test_a_set_sorted_by_class_is_not_cut_to_its_first_classes():
    modes = torch.arange(4).repeat_interleave(50)[:, None] * 5.0
    real, same = gaussian(200, 1) + modes, gaussian(200, 1, 1) + modes
    dropped = gaussian(60, 1, 2) + modes[:60]
    assert relative_mmd_test(real, dropped, same).p_value < 0.01


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(TooFewImagesError, match="at least 10"):
        relative_mmd_test(gaussian(9), gaussian(20), gaussian(20))
    with pytest.raises(ConfigurationError, match="must differ"):
        relative_mmd_test(gaussian(20), gaussian(20, seed=1), gaussian(20, seed=1))
