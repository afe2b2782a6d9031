from __future__ import annotations

import pickle
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.plan import batch_plan, mix_plan
from torchgenaug.plan.batch_plan import BatchPlan
from torchgenaug.plan.large_draws import LargeDraws
from torchgenaug.plan.mix_plan import MixPlan


def steady(size, draws, seed=0):
    return LargeDraws(size, seed, lambda epoch: epoch * draws, draws)


def check_even(plan, draws, size):
    """Each epoch draws what it must, evenly by itself, from its beginning, and with all epochs before."""
    used = np.zeros(size, int)
    for epoch, number in enumerate(draws):
        assert np.array_equal(plan.counts_before(epoch), used)
        drawn = plan.epoch(epoch)
        assert len(drawn) == number
        for prefix in (drawn[: number // 2], drawn):
            assert np.ptp(np.bincount(prefix, minlength=size)) <= 1
        used += np.bincount(drawn, minlength=size)
        assert np.ptp(used) <= 1
        if number <= size:
            expected = np.full(size, size)
            expected[drawn] = np.arange(number)
            assert np.array_equal(plan.draws_of(epoch, np.arange(size)), expected)


@given(st.integers(1, 60), st.integers(1, 150), st.integers(0, 9))
def test_epochs_draw_evenly_each_and_together(size, draws, seed):
    check_even(steady(size, draws, seed), [draws] * 12, size)


@given(st.integers(1, 40), st.lists(st.integers(0, 90), min_size=1, max_size=15), st.integers(0, 9))
def test_epochs_that_draw_differently(size, draws, seed):
    sums, asked = [0, *accumulate(draws)], [0]

    def before(epoch):
        asked.append(epoch)
        return sums[epoch]

    plan = LargeDraws(size, seed, before, None)
    for epoch in range(len(draws)):
        plan.epoch(epoch)
        assert max(asked) <= epoch + 1, "what later epochs draw is not known yet"
    check_even(plan, draws, size)


@given(st.integers(2, 50), st.fractions(0, 120, max_denominator=64), st.integers(0, 9))
def test_draws_that_differ_by_one(size, share, seed):
    def before(epoch):
        return (2 * share * epoch + 1).__floor__() // 2

    draws = [before(epoch + 1) - before(epoch) for epoch in range(10)]
    check_even(LargeDraws(size, seed, before, Fraction(share)), draws, size)


@given(st.integers(1, 50), st.integers(1, 80), st.permutations(range(20)))
def test_an_epoch_does_not_depend_on_which_were_looked_at_before(size, draws, order):
    plan = steady(size, draws)
    for epoch in order:
        assert np.array_equal(plan.epoch(epoch), steady(size, draws).epoch(epoch))


@pytest.mark.parametrize("draws", [10, 25, 30, 50, 70, 90, 130])
def test_sets_differ_in_every_lap(draws):
    plan = steady(20_000, 200 * draws)
    epochs = [plan.epoch(epoch) for epoch in range(30)]
    assert len({np.bincount(drawn, minlength=20_000).tobytes() for drawn in epochs}) == 30


def test_far_epochs_cost_what_near_ones_do():
    plan = steady(100, 30)
    assert len(np.unique(plan.epoch(1 << 62))) == 30
    assert not np.array_equal(plan.epoch(1 << 62), plan.epoch((1 << 62) + 10))


@pytest.fixture
def large(monkeypatch):
    """Sets of a hundred are large."""
    for module in (mix_plan, batch_plan):
        monkeypatch.setattr(module, "MOST_SHUFFLED", 50)


@pytest.mark.parametrize("ratio", [0.2, 0.25, 0.99, 1.0, lambda epoch: 0.2, lambda epoch: (epoch % 7) / 7])
@pytest.mark.parametrize(("mode", "num_synthetic"), [("replace", 100), ("replace", 30), ("extend", 100)])
def test_plans_of_large_sets_pair_an_index_with_other_samples_in_every_lap(large, ratio, mode, num_synthetic):
    if mode == "extend" and ratio in (0.99, 1.0):
        ratio = 0.6
    plan = MixPlan(100, num_synthetic, ratio, mode=mode)
    used, left_out, pairs, total = np.zeros(num_synthetic, int), np.zeros(100, int), set(), 0
    for epoch in range(100):
        indices = np.arange(plan.counts(epoch).total)
        is_synthetic, positions = plan.look_up(indices, epoch)
        assert is_synthetic.sum() == plan.counts(epoch).synthetic
        one_by_one = [plan.look_up([index], epoch)[1][0] for index in indices[::17]]
        assert one_by_one == positions[::17].tolist(), "an index does not depend on the others of its batch"
        used += np.bincount(positions[is_synthetic], minlength=num_synthetic)
        assert np.ptp(used) <= 1
        if mode == "replace":
            assert np.array_equal(positions[~is_synthetic], indices[~is_synthetic])
            left_out += is_synthetic
            assert np.ptp(left_out) <= 1
        pairs |= set(zip(indices[is_synthetic].tolist(), positions[is_synthetic].tolist(), strict=True))
        total += int(is_synthetic.sum())
    places = 100 if mode == "replace" else len(np.unique([index for index, _ in pairs]))
    assert len(pairs) > 0.6 * places * num_synthetic * (1 - np.exp(-total / (places * num_synthetic)))


def test_batches_of_a_large_source_are_even(large):
    plan, used = BatchPlan(20_000, 0.3, epoch_size=18_001), np.zeros(20_000, int)
    orders = []
    for epoch in range(40):
        part = plan.epoch(epoch)
        orders.append(part.positions(part.draws(0, 18_001)))
        used += np.bincount(orders[-1], minlength=20_000)
        assert np.ptp(used) <= 1
    assert len({np.sort(order).tobytes() for order in orders}) == 40


def test_a_plan_of_large_sets_pickles_without_its_order(large):
    plan = MixPlan(100_000, 100_000, 0.5)
    expected = plan.look_up(np.arange(0, 100_000, 997), 3)[1]
    content = pickle.dumps(plan)
    assert len(content) < 10_000
    assert np.array_equal(pickle.loads(content).look_up(np.arange(0, 100_000, 997), 3)[1], expected)
