from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torchgenaug.metrics.resampling import bootstrap_mean, numbered, strangers


def gaussian(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_interval_is_that_of_the_central_limit():
    values = gaussian(400, 0) + 5
    found = bootstrap_mean(values, resamples=2000)
    assert found.mean == pytest.approx(float(values.mean()))
    assert found.high - found.low == pytest.approx(2 * 1.96 * float(values.std()) / 20, rel=0.08)


def test_patients_are_drawn_as_wholes():
    """20 patients of 10 equal slices are 20 values: the interval is √10 times as wide as of 200."""
    patients = torch.arange(200) // 10
    values = gaussian(20, 1)[patients]
    by_patient, by_slice = bootstrap_mean(values, patients), bootstrap_mean(values)
    ratio = (by_patient.high - by_patient.low) / (by_slice.high - by_slice.low)
    assert ratio == pytest.approx(math.sqrt(10), rel=0.15)


def test_missing_values_do_not_count():
    values = torch.tensor([1.0, torch.nan, 3.0])
    assert bootstrap_mean(values, torch.tensor([0, 1, 2])).mean == 2
    assert all(map(math.isnan, bootstrap_mean(torch.full((3,), torch.nan))))


def test_a_function_of_the_seed():
    values, before = gaussian(30, 2), torch.random.get_rng_state()
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("seed", range(5))
def test_strangers_are_of_another_group(seed):
    groups = torch.tensor(numbered([str(each) for each in np.random.default_rng(seed).integers(6, size=40)]))
    partner = strangers(groups, seed=seed)
    assert sorted(partner.tolist()) == list(range(40))
    assert not (groups[partner] == groups).any()


def test_no_strangers_in_one_family():
    assert strangers(torch.tensor([0, 0, 1])) is None
