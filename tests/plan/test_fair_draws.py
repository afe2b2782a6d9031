from __future__ import annotations

from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.plan.fair_draws import EpochDraws
from torchgenaug.plan.mix_plan import MixPlan


def steady(size, draws, seed=0):
    return EpochDraws(size, seed, lambda epoch: epoch * draws, draws)


@given(st.integers(1, 60), st.integers(1, 150), st.integers(0, 9))
def test_epochs_draw_evenly_each_and_together(size, draws, seed):
    plan, used = steady(size, draws, seed), np.zeros(size, int)
    for epoch in range(12):
        assert np.array_equal(plan.counts_before(epoch), used)
        drawn = plan.epoch(epoch)
        assert len(drawn) == draws
        for prefix in (drawn[: draws // 2], drawn):
            assert np.ptp(np.bincount(prefix, minlength=size)) <= 1
        used += np.bincount(drawn, minlength=size)
        assert np.ptp(used) <= 1


@given(st.integers(1, 40), st.lists(st.integers(0, 90), min_size=1, max_size=15), st.integers(0, 9))
def test_epochs_that_draw_differently(size, draws, seed):
    sums = [0, *accumulate(draws)]
    asked = []

    def before(epoch):
        asked.append(epoch)
        return sums[epoch]

    plan, used = EpochDraws(size, seed, before, None), np.zeros(size, int)
    for epoch, number in enumerate(draws):
        drawn = plan.epoch(epoch)
        assert max(asked) <= epoch + 1, "what later epochs draw is not known yet"
        assert len(drawn) == number
        assert np.ptp(np.bincount(drawn, minlength=size)) <= 1
        used += np.bincount(drawn, minlength=size)
        assert np.ptp(used) <= 1
        assert np.array_equal(plan.counts_before(epoch + 1), used) if epoch + 1 < len(draws) else True


@given(st.integers(2, 50), st.fractions(0, 120, max_denominator=64), st.integers(0, 9))
def test_draws_that_differ_by_one(size, share, seed):
    def before(epoch):
        return (2 * share * epoch + 1).__floor__() // 2

    plan, used = EpochDraws(size, seed, before, Fraction(share)), np.zeros(size, int)
    for epoch in range(10):
        drawn = plan.epoch(epoch)
        assert len(drawn) == before(epoch + 1) - before(epoch)
        assert np.ptp(np.bincount(drawn, minlength=size)) <= 1
        used += np.bincount(drawn, minlength=size)
        assert np.ptp(used) <= 1


@given(st.integers(1, 50), st.integers(1, 80), st.permutations(range(20)))
def test_an_epoch_does_not_depend_on_which_were_looked_at_before(size, draws, order):
    plan = steady(size, draws)
    for epoch in order:
        assert np.array_equal(plan.epoch(epoch), steady(size, draws).epoch(epoch))


@pytest.mark.parametrize("draws", [10, 25, 30, 50, 70, 90, 130])
def test_sets_and_orders_differ_in_every_lap(draws):
    plan = steady(100, draws)
    epochs = [plan.epoch(epoch) for epoch in range(60)]
    assert len({tuple(drawn) for drawn in epochs}) == 60
    assert len({tuple(np.bincount(drawn, minlength=100)) for drawn in epochs}) == 60


def test_far_epochs_cost_what_near_ones_do():
    plan = steady(100, 30)
    assert len(np.unique(plan.epoch(1 << 62))) == 30
    assert not np.array_equal(plan.epoch(1 << 62), plan.epoch((1 << 62) + 10))


@pytest.mark.parametrize("mode", ["replace", "extend"])
@pytest.mark.parametrize("labels", [None, [0, 1, 2, 3] * 25])
def test_plans_pair_an_index_with_other_samples_in_every_lap(mode, labels):
    """What a user sees: with N = M there were as many different epochs as fit into one pass over the sets."""
    plan = MixPlan(100, 100, 0.2, mode=mode, labels=labels)
    members = None if labels is None else plan.group(labels)
    pairs, sets, total = set(), set(), 0
    for epoch in range(100):
        indices = np.arange(plan.counts(epoch).total)
        is_synthetic, positions = plan.look_up(indices, epoch, members)
        pairs |= set(zip(indices[is_synthetic].tolist(), positions[is_synthetic].tolist(), strict=True))
        sets.add(tuple(sorted(positions[is_synthetic].tolist())))
        total += int(is_synthetic.sum())
    assert len(sets) == 100
    # Pairs that can be drawn: 100 · 100, of equal class 100 · 25, in mode "extend" 25 places. Chance repeats some.
    possible = {"replace": 10_000, "extend": 2_500}[mode] // (1 if labels is None or mode == "extend" else 4)
    assert len(pairs) > 0.7 * possible * (1 - np.exp(-total / possible))
