from __future__ import annotations

import pickle

import numpy as np
import pytest

from torchgenaug.errors import ConfigurationError
from torchgenaug.plan import mix_plan
from torchgenaug.plan.batch_plan import BatchPlan
from torchgenaug.plan.mix_plan import MixPlan


class Score:
    """A ratio that training changes."""

    value = 0.5

    def __call__(self, epoch):
        return self.value


def test_the_ratio_of_an_epoch_is_decided_once():
    ratio = Score()
    plan = MixPlan(100, 10, ratio)
    ratio.value = 0.9
    plan.decide(0)
    assert plan.counts(0).synthetic == plan.is_synthetic(np.arange(100), 0).sum() == 50
    assert plan.counts(1).synthetic == 90
    ratio.value = 0.2
    assert plan.counts(1).synthetic == 20, "to look ahead decides nothing"
    plan.decide(1)
    ratio.value = 1.0
    assert plan.is_synthetic(np.arange(100), 1).sum() == 20
    copy = pickle.loads(pickle.dumps(plan))
    assert [copy.counts(epoch).synthetic for epoch in range(3)] == [50, 20, 100]


def test_restored_counts_decide():
    plan = MixPlan(100, 10, Score())
    plan.amounts.decided.restore([10, 20])
    assert (plan.counts(0).synthetic, plan.counts(1).synthetic, plan.offset(2)) == (10, 20, 30)


@pytest.mark.parametrize("plan", [MixPlan(100, 10, Score()), BatchPlan(10, Score(), epoch_size=100)])
def test_a_function_is_not_called_for_a_trillion_epochs(plan):
    with pytest.raises(ConfigurationError, match=r"`epoch` must be below 65536.*Give a constant ratio"):
        plan.decide(1 << 40) if isinstance(plan, MixPlan) else plan.epoch(1 << 40)


@pytest.mark.parametrize("mode", ["replace", "extend"])
@pytest.mark.parametrize("most", [mix_plan.MOST_SHUFFLED, 50])
def test_late_epochs_of_a_constant_ratio(mode, most, monkeypatch):
    monkeypatch.setattr(mix_plan, "MOST_SHUFFLED", most)
    for epoch in (1 << 40, (1 << 62) + 1, (1 << 63) - 1):
        plan = MixPlan(100, 70, 0.25, mode=mode)
        is_synthetic, positions = plan.look_up(np.arange(plan.counts(epoch).total), epoch)
        assert is_synthetic.sum() == plan.counts(epoch).synthetic
        assert positions[is_synthetic].max() < 70
    with pytest.raises(ConfigurationError, match=r"below 2\^63"):
        MixPlan(100, 70, 0.25).look_up([0], 1 << 63)


def test_extending_billions_of_samples_does_not_overflow():
    plan = MixPlan(3 * 10**9, 7, mode="extend", count=3 * 10**9)
    last = plan.counts(0).total - 1
    indices = np.array([0, 1, 2, 3, last - 3, last - 2, last - 1, last])
    is_synthetic, positions = plan.look_up(indices, 0)
    assert is_synthetic.sum() == 4
    assert (positions[is_synthetic] < 7).all()
    assert positions[~is_synthetic].tolist() == [0, 1, 3 * 10**9 - 2, 3 * 10**9 - 1]


@pytest.mark.parametrize("share", [{"count": 1 << 63}, {"count": 1 << 70}, {"ratio": 1 - 2**-53}])
def test_an_epoch_that_no_sampler_could_count_is_named(share):
    with pytest.raises(ConfigurationError, match=r"must have fewer than 2\^63 samples"):
        MixPlan(3 * 10**9, 7, mode="extend", **share)


@pytest.mark.parametrize("most", [mix_plan.MOST_SHUFFLED, 50])
def test_what_was_looked_up_before_a_restore_is_forgotten(most, monkeypatch):
    """A mix that already read epochs is taken to the numbers of a saved run: as one that read nothing."""
    monkeypatch.setattr(mix_plan, "MOST_SHUFFLED", most)
    plans = [MixPlan(100, 70, Score()) for _ in range(2)]
    for epoch in range(4):
        plans[0].look_up(np.arange(100), epoch)
    for plan in plans:
        with pytest.warns(UserWarning, match="gives 50 synthetic samples in epoch 0, where the saved run drew 10"):
            plan.restore([10, 45, 20])
    for epoch in range(3):
        first, second = (plan.look_up(np.arange(100), epoch) for plan in plans)
        assert first[0].sum() == [10, 45, 20][epoch]
        assert np.array_equal(first[1], second[1])
