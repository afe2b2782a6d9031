from __future__ import annotations

import math
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError, SampleIndexError
from torchgenaug.plan.mix_plan import MixPlan

sizes = st.integers(1, 200)
ratios = st.floats(0, 1, allow_nan=False)
seeds = st.integers(0, 2**63 - 1)


def schedule(epoch: int) -> float:
    return (0.1, 0.9, 0.0, 0.35, 1.0)[epoch % 5]


def epoch_of(plan: MixPlan, epoch: int, members=None):
    return plan.look_up(np.arange(plan.counts(epoch).total), epoch, members)


@given(sizes, sizes, ratios, seeds, st.integers(0, 1000))
def test_replace_is_exact(num_real, num_synthetic, ratio, seed, epoch):
    plan = MixPlan(num_real, num_synthetic, ratio, seed=seed)
    is_synthetic, positions = epoch_of(plan, epoch)
    assert len(is_synthetic) == num_real
    assert is_synthetic.sum() == round(ratio * num_real) == plan.counts(epoch).synthetic
    kept = positions[~is_synthetic]
    assert (kept == np.flatnonzero(~is_synthetic)).all(), "a real sample is read at its own index"
    assert ((positions[is_synthetic] >= 0) & (positions[is_synthetic] < num_synthetic)).all()


@given(sizes, sizes, st.floats(0, 0.95), seeds, st.integers(0, 1000))
def test_extend_keeps_every_real_sample_in_order_and_adds_exactly(num_real, num_synthetic, ratio, seed, epoch):
    plan = MixPlan(num_real, num_synthetic, ratio, mode="extend", seed=seed)
    is_synthetic, positions = epoch_of(plan, epoch)
    assert (positions[~is_synthetic] == np.arange(num_real)).all()
    exact = Fraction(ratio) / (1 - Fraction(ratio)) * num_real
    assert abs(int(is_synthetic.sum()) - exact) <= Fraction(1, 2) + Fraction(1, 10**9)


@given(sizes, st.floats(0, 0.95))
def test_extend_spreads_the_synthetic_samples_evenly(num_real, ratio):
    plan = MixPlan(num_real, 50, ratio, mode="extend")
    is_synthetic, _ = epoch_of(plan, 0)
    seen = np.concatenate([[0], np.cumsum(is_synthetic)])
    ideal = np.arange(len(seen)) * plan.counts(0).synthetic / plan.counts(0).total
    assert np.abs(seen - ideal).max() <= 0.5 + 1e-9, "every prefix is within half a sample of the ratio"


@given(sizes, sizes, st.one_of(ratios, st.just(schedule)), seeds, st.integers(1, 12))
def test_no_sample_is_favoured_over_the_epochs(num_real, num_synthetic, ratio, seed, epochs):
    plan = MixPlan(num_real, num_synthetic, ratio, seed=seed)
    left_out, used = np.zeros(num_real, int), np.zeros(num_synthetic, int)
    for epoch in range(epochs):
        is_synthetic, positions = epoch_of(plan, epoch)
        left_out += is_synthetic
        in_epoch = np.bincount(positions[is_synthetic], minlength=num_synthetic)
        assert np.ptp(in_epoch) <= 1, "a short source is reused evenly within an epoch"
        used += in_epoch
    assert np.ptp(left_out) <= 1
    assert np.ptp(used) <= 1


@given(st.sampled_from(["replace", "extend"]), sizes, st.integers(0, 300), st.integers(0, 9))
def test_count_is_absolute(mode, num_real, count, epoch):
    count = min(count, num_real) if mode == "replace" else count
    plan = MixPlan(num_real, 10, mode=mode, count=count)
    assert epoch_of(plan, epoch)[0].sum() == count


@given(
    st.sampled_from(["replace", "extend"]),
    st.lists(st.integers(0, 3), min_size=8, max_size=60),
    st.integers(0, 6),
    seeds,
)
def test_matched_classes(mode, labels, epoch, seed):
    labels = np.array(labels)
    source_labels = np.arange(21) % 4
    plan = MixPlan(len(labels), 21, 0.5, mode=mode, seed=seed, labels=labels)
    members = plan.group(source_labels)
    used = np.zeros(21, int)
    drawn_classes = np.zeros(4, int)
    for each in range(epoch + 1):
        is_synthetic, positions = epoch_of(plan, each, members)
        if mode == "replace":
            assert (source_labels[positions[is_synthetic]] == labels[is_synthetic]).all()
        used += np.bincount(positions[is_synthetic], minlength=21)
        drawn_classes += np.bincount(source_labels[positions[is_synthetic]], minlength=4)
    for kind in np.unique(labels):
        assert np.ptp(used[source_labels == kind]) <= 1, "each class is reused evenly"
    # Class balance over a whole number of laps is that of the real set; in between it is off by at most one lap's part.
    laps = drawn_classes.sum() // len(labels)
    counts = np.bincount(labels, minlength=4)
    assert ((drawn_classes >= laps * counts) & (drawn_classes <= (laps + 1) * counts)).all()


@given(st.integers(1, 100), ratios, seeds, st.integers(0, 50), st.permutations(range(12)))
def test_look_up_is_a_function_of_the_index(num_real, ratio, seed, epoch, order):
    plan = MixPlan(num_real, 7, ratio, seed=seed)
    indices = np.array(order) % num_real
    together = plan.look_up(indices, epoch)
    for row, index in enumerate(indices):
        fresh = MixPlan(num_real, 7, ratio, seed=seed)
        alone = fresh.look_up([index], epoch)
        assert (alone[0][0], alone[1][0]) == (together[0][row], together[1][row])


def test_sorted_data_sets_do_not_alias():
    """Both sets sorted by class: every epoch leaves out and draws every class about equally."""
    plan = MixPlan(1000, 1000, 0.1)
    for epoch in range(10):
        is_synthetic, positions = epoch_of(plan, epoch)
        for drawn in (np.flatnonzero(is_synthetic), positions[is_synthetic]):
            per_class = np.bincount(drawn // 250, minlength=4)
            assert per_class.min() >= 10, per_class  # 25 expected; 10 is 3.5 standard deviations away


def test_other_samples_are_replaced_each_epoch():
    plan = MixPlan(100, 100, 0.25)
    first, second = (set(np.flatnonzero(epoch_of(plan, epoch)[0])) for epoch in (0, 1))
    assert not first & second


def test_seeds_give_other_plans():
    one, two = (epoch_of(MixPlan(100, 100, 0.5, seed=seed), 0) for seed in (1, 2))
    assert (one[0] != two[0]).any()


def test_pickles_small():
    plan = MixPlan(100_000, 100_000, 0.3, seed=4)
    expected = plan.look_up(np.arange(50), 3)
    data = pickle.dumps(plan)
    assert len(data) < 2_000, "permutations are recomputed, not sent"
    copy = pickle.loads(data)
    for a, b in zip(expected, copy.look_up(np.arange(50), 3), strict=True):
        assert (a == b).all()


def test_full_ratio_leaves_no_real_sample():
    assert epoch_of(MixPlan(10, 3, 1.0), 0)[0].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 1.5}, r"`ratio` must be in \[0, 1\], got 1.5 .*fractions, for example 0.015"),
        ({"ratio": -0.1}, r"`ratio` must be in \[0, 1\], got -0.1"),
        ({"ratio": math.nan}, r"`ratio` must be a number in \[0, 1\].* got nan"),
        ({"ratio": True}, "`ratio` must be a number"),
        ({"ratio": "0.3"}, "`ratio` must be a number.* got '0.3'"),
        ({"ratio": 1.0, "mode": "extend"}, r"`ratio` must be in \[0, 1\), got 1.0 in mode 'extend'.*mode='replace'"),
        ({"ratio": lambda epoch: 2.0}, "got 2.0 in mode 'replace' at epoch 0"),
        ({"mode": "append"}, "`mode` must be 'replace' or 'extend', got 'append'"),
        ({"count": 11}, r"`count` must be at most the number of real samples \(10\).*mode='extend'"),
        ({"count": -1}, "`count` must be a non-negative integer, got -1"),
        ({"count": 2.0}, "`count` must be a non-negative integer, got 2.0"),
        ({"seed": -1}, r"`seed` must be an integer in \[0, 2\^63\), got -1"),
        ({"labels": [1, 2]}, r"`labels` must hold one class per real sample \(10\), got 2"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        MixPlan(10, 5, **arguments)


def test_empty_sets():
    with pytest.raises(EmptyDatasetError, match="real data set is empty"):
        MixPlan(0, 5)
    with pytest.raises(EmptyDatasetError, match="synthetic source is empty, but 2 synthetic samples are needed"):
        MixPlan(8, 0, 0.25)
    assert MixPlan(8, 0, 0.0).counts(0) == (8, 0)


@pytest.mark.parametrize("index", [-1, 10, 2**40])
@pytest.mark.parametrize("mode", ["replace", "extend"])
def test_index_outside(mode, index):
    plan = MixPlan(10, 5, 0.0 if mode == "extend" else 0.5, mode=mode)
    with pytest.raises(SampleIndexError, match=r"must be in \[0, 10\) in epoch 0"):
        plan.look_up([0, index], 0)


@pytest.mark.parametrize("epoch", [-1, 0.5, True])
def test_bad_epoch(epoch):
    with pytest.raises(ConfigurationError, match="`epoch` must be a non-negative integer"):
        MixPlan(10, 5).counts(epoch)


def test_a_class_without_synthetic_samples():
    plan = MixPlan(4, 3, 0.5, labels=[0, 1, 2, 2])
    with pytest.raises(FieldMismatchError, match=r"got none of class \[1\]"):
        plan.group([0, 2, 2])
    with pytest.raises(ConfigurationError, match="`members` must be given"):
        plan.look_up([0, 1, 2, 3], 0)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "indices",
    [
        [3, 0, 39],
        [],
        (1, 2),
        range(5),
        np.array([4, 4]),
        [np.int64(7), np.uint8(8)],
        [torch.tensor(9), 1],
        torch.tensor([2, 1]),
    ],
    ids=repr,
)
def test_a_list_of_codes_is_what_the_array_is(indices, kept):
    plan = MixPlan(40, 9, 0.4, seed=3)
    expected = plan.codes(indices, 2).tolist()
    assert any(code < 0 for code in plan.codes(np.arange(40), 2))
    if not kept:
        plan = MixPlan(40, 9, 0.4, seed=3)
    codes = plan.code_list(indices, 2)
    assert codes == expected
    assert all(type(code) is int for code in codes)


@pytest.mark.parametrize(
    "indices",
    [
        [1.0, 2.0],
        [np.float64(3.0)],
        ["a"],
        [None],
        [0, [1]],
        [True, False],
        torch.tensor([True]),
    ],
    ids=repr,
)
def test_a_list_of_codes_takes_integers_only(indices):
    plan = MixPlan(40, 9, 0.4)
    plan.code_list([0], 0)
    with pytest.raises(SampleIndexError, match="`index` must be an integer"):
        plan.code_list(indices, 0)


@pytest.mark.parametrize("indices", [[1.7], np.array([True, False]), [1 << 70], np.array([0.0]), ["1"]], ids=repr)
def test_an_array_of_indices_holds_integers(indices):
    plan = MixPlan(40, 9, 0.4)
    for look_up in (plan.is_synthetic, plan.look_up, plan.codes):
        with pytest.raises(SampleIndexError, match=r"`indices` must be integers below 2\^63"):
            look_up(indices, 0)


def test_a_table_of_indices_is_no_batch():
    plan = MixPlan(40, 9, 0.4)
    assert plan.is_synthetic(np.arange(40).reshape(8, 5), 0).sum() == 16
    with pytest.raises(SampleIndexError, match=r"got an array of shape \(1, 2\)"):
        plan.code_list(np.array([[1, 2]]), 0)


@pytest.mark.parametrize("indices", [[0, 40], [-1], [1 << 70]], ids=repr)
def test_a_list_of_codes_fails_as_the_array_does(indices):
    plan = MixPlan(40, 9, 0.4)
    plan.code_list([0], 0)
    with pytest.raises(SampleIndexError) as by_array:
        plan.codes(indices, 0)
    with pytest.raises(by_array.type, match=re.escape(str(by_array.value))):
        plan.code_list(indices, 0)


def test_a_list_of_codes_follows_the_epoch_and_the_members():
    labels = np.arange(40) % 2
    plan = MixPlan(40, 12, 0.5, labels=labels)
    one, two = plan.group(np.arange(12) % 2), plan.group(np.arange(12) // 6)
    every = list(range(40))
    for members, epoch in ((one, 0), (two, 0), (two, 1), (one, 1), (one, 0)):
        fresh = MixPlan(40, 12, 0.5, labels=labels)
        assert plan.code_list(every, epoch, members) == fresh.codes(every, epoch, members).tolist()
