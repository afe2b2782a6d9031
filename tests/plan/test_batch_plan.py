from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.plan.batch_plan import BatchPlan

sizes_of_batches = st.lists(st.integers(1, 70), min_size=1, max_size=30)
ratios = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.9]), st.floats(0, 0.99))


def walk(plan, sizes, epoch=0, **ranks):
    """The draws of each batch."""
    part, seen, draws = plan.epoch(epoch, **ranks), 0, []
    for size in sizes:
        draws.append(part.draws(seen, size))
        seen += size
    return draws


@given(sizes_of_batches, ratios, st.sampled_from(["replace", "extend"]), st.integers(0, 5), st.booleans())
def test_every_run_of_batches_is_within_one_of_its_share(sizes, ratio, mode, epoch, known):
    plan = BatchPlan(17, ratio, mode=mode, epoch_size=sum(sizes) if known else None)
    draws = walk(plan, sizes, epoch)
    exact = Fraction(repr(ratio))
    for first in range(len(sizes)):
        for last in range(first + 1, len(sizes) + 1):
            made, real = sum(map(len, draws[first:last])), sum(sizes[first:last])
            total = real if mode == "replace" else real + made
            assert abs(made - exact * total) < 1
    if mode == "replace":
        assert all(len(drawn) <= size for drawn, size in zip(draws, sizes, strict=True))


@given(st.integers(1, 90), st.integers(1, 16), ratios, st.integers(1, 5))
def test_runs_go_on_through_the_epochs(size, batch, ratio, world_size):
    """Draws of consecutive epochs are consecutive, and the total is within one of its share over all of them."""
    sizes = [batch] * (size // batch) + ([size % batch] if size % batch else [])
    plan = BatchPlan(11, ratio, epoch_size=size)
    drawn = [draw for epoch in range(4) for draws in walk(plan, sizes, epoch) for draw in draws]
    assert drawn == list(range(len(drawn)))
    assert abs(len(drawn) - Fraction(repr(ratio)) * 4 * size) < 1
    uses = np.zeros(11, int)
    for epoch in range(4):
        part = plan.epoch(epoch)
        read = [part.positions(draws) for draws in walk(plan, sizes, epoch)]
        in_epoch = np.bincount(np.concatenate(read), minlength=11)
        assert np.ptp(in_epoch) <= 1
        uses += in_epoch
        assert np.ptp(uses) <= 1
    ranks = [
        draw
        for epoch in range(2)
        for rank in range(world_size)
        for draws in walk(plan, sizes, epoch, rank=rank, world_size=world_size)
        for draw in draws
    ]
    assert ranks == list(range(len(ranks)))


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_short_epochs_of_unknown_length_are_not_rounded_alike(ratio):
    plan = BatchPlan(11, ratio)
    drawn = sum(len(draws) for epoch in range(2000) for draws in walk(plan, [4, 1], epoch))
    assert drawn / 10_000 == pytest.approx(ratio, abs=0.02)


@given(st.lists(st.floats(0, 0.95), min_size=5, max_size=5), st.sampled_from(["replace", "extend"]))
def test_a_ratio_that_changes_keeps_the_sum(ratio_of, mode):
    plan = BatchPlan(11, lambda epoch: ratio_of[epoch], mode=mode, epoch_size=30)
    drawn = [draw for epoch in range(5) for draws in walk(plan, [8, 8, 8, 6], epoch) for draw in draws]
    assert drawn == list(range(len(drawn)))
    shares = [Fraction(repr(r)) if mode == "replace" else Fraction(repr(r)) / (1 - Fraction(repr(r))) for r in ratio_of]
    assert abs(len(drawn) - 30 * sum(shares)) < 1 + 1e-9


def test_nothing_drifts_over_ten_million_samples():
    plan = BatchPlan(1000, 0.3, epoch_size=10**7).epoch(0)
    assert plan.draws(0, 10**7) == range(3_000_000)
    assert len(plan.draws(10**7 - 10, 10)) == 3
    assert len(BatchPlan(1000, 0.3).epoch(10**6).draws(10**7 - 10, 10)) == 3


def test_an_unknown_length_starts_each_epoch_elsewhere():
    plan = BatchPlan(1000, 0.5, seed=3)
    starts = [plan.epoch(epoch).draws(0, 10).start for epoch in range(6)]
    assert len(set(starts)) == 6
    assert starts == [BatchPlan(1000, 0.5, seed=3).epoch(epoch).draws(0, 10).start for epoch in range(6)]
    assert plan.epoch(0, rank=1).draws(0, 10) != plan.epoch(0).draws(0, 10)


@given(st.integers(1, 80), st.data())
def test_kept_rows_are_a_subset_of_the_asked_size(size, data):
    count = data.draw(st.integers(0, size))
    plan = BatchPlan(5, 0.5, seed=data.draw(st.integers(0, 9)), epoch_size=100).epoch(2)
    rows = plan.kept(data.draw(st.integers(0, 500)), size, count)
    assert len(rows) == count
    assert (np.diff(rows) > 0).all()
    assert count == 0 or (rows[0] >= 0 and rows[-1] < size)


def test_kept_rows_depend_on_batch_and_epoch_and_favour_no_place():
    plan = BatchPlan(5, 0.5, epoch_size=1000)
    kept = [plan.epoch(epoch).kept(batch, 8, 4).tolist() for epoch in range(8) for batch in range(100)]
    assert len({tuple(rows) for rows in kept}) == 70  # all subsets of 4 of 8 come up
    counts = np.bincount(np.concatenate(kept), minlength=8)
    assert abs(counts - 400).max() < 5 * np.sqrt(800 * 0.25)


def test_kept_rows_do_not_depend_on_what_was_asked_before():
    one, other = BatchPlan(5, 0.5, epoch_size=9).epoch(0), BatchPlan(5, 0.5, epoch_size=9).epoch(0)
    for batch, size in ((0, 4), (1, 12), (70, 3), (2, 12)):
        one.kept(batch, size, size // 2)
    assert one.kept(70, 9, 4).tolist() == other.kept(70, 9, 4).tolist()


def test_mistakes_are_named():
    with pytest.raises(ConfigurationError, match=r"`ratio` must be in \[0, 1\), got 1.0 in mode 'extend'"):
        BatchPlan(5, 1.0, mode="extend")
    with pytest.raises(ConfigurationError, match=r"for example 0\.3"):
        BatchPlan(5, 30)
    with pytest.raises(ConfigurationError, match="got 2 in mode 'replace' at epoch 3"):
        BatchPlan(5, lambda epoch: 2 if epoch == 3 else 0.5).share(3)
    with pytest.raises(ConfigurationError, match="`epoch` must be a non-negative integer, got -1"):
        BatchPlan(5, 0.5).epoch(-1)
    with pytest.raises(ConfigurationError, match="`mode` must be 'replace' or 'extend'"):
        BatchPlan(5, 0.5, mode="add")
    with pytest.raises(ConfigurationError, match="`seed` must be an integer"):
        BatchPlan(5, 0.5, seed=-1)
    with pytest.raises(EmptyDatasetError, match=r"a ratio of 0\.5 is set in epoch 0"):
        BatchPlan(0, 0.5)
    assert not BatchPlan(0, 0.0).epoch(0).draws(0, 100)
