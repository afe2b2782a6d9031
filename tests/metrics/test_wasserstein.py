from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.sets.wasserstein import _wasserstein_1d, sliced_wasserstein, wasserstein


def gaussian(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_exact_is_the_best_of_all_assignments():
    real, synthetic = gaussian(6, 3).numpy(), gaussian(6, 3, 1).numpy()
    ways = [np.linalg.norm(real - synthetic[list(each)], axis=1).mean() for each in itertools.permutations(range(6))]
    assert wasserstein(torch.tensor(real), torch.tensor(synthetic)) == pytest.approx(min(ways), rel=1e-6)


def test_a_shift_costs_its_length():
    real = gaussian(50, 3)
    assert wasserstein(real, real + torch.tensor([3.0, 4.0, 0.0])) == pytest.approx(5, rel=1e-5)


@pytest.mark.parametrize("counts", [(20, 20), (20, 33)])
def test_one_dimension_agrees_with_scipy(counts):
    a, b = gaussian(counts[0], 3), gaussian(counts[1], 3, 1) * 2
    expected = [scipy.stats.wasserstein_distance(a[:, i], b[:, i]) for i in range(3)]
    np.testing.assert_allclose(_wasserstein_1d(a, b), expected, rtol=1e-5)


def test_sliced_shift_in_closed_form():
    """A shift v costs |θ·v| along θ: on average |v| Γ(d/2) / (√π Γ((d+1)/2))."""
    real, width = gaussian(30, 5), 5
    expected = 2 * math.gamma(width / 2) / (math.sqrt(math.pi) * math.gamma((width + 1) / 2))
    shift = torch.tensor([2.0, 0, 0, 0, 0])
    assert sliced_wasserstein(real, real + shift, directions=4000) == pytest.approx(expected, rel=0.03)
    assert sliced_wasserstein(real, real) == 0


def test_the_same_seed_gives_the_same_directions():
    real, synthetic = gaussian(30, 5), gaussian(40, 5, 1)
    assert sliced_wasserstein(real, synthetic, seed=1) == sliced_wasserstein(real, synthetic, seed=1)
    assert sliced_wasserstein(real, synthetic, seed=1) != sliced_wasserstein(real, synthetic, seed=2)


def test_unequal_sets_are_sent_to_the_sliced_one():
    with pytest.raises(ConfigurationError, match="use `sliced_wasserstein`"):
        wasserstein(gaussian(5, 2), gaussian(6, 2))
