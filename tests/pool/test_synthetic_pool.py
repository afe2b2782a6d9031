"""The pool shows exactly the samples of its window, in every epoch, however it got there."""

import math
import pickle
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, PoolError, SampleIndexError
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, SourceConformance
from torchgenaug.types import FieldSpec


class BatchBound:
    """A synthesizer whose samples depend on the batch that they are made in: only aligned batches agree."""

    fingerprint = "0" * 64

    @property
    def fields(self):
        return {"image": FieldSpec((2, 3)), "label": FieldSpec((), torch.int64, kind="scalar")}

    def synthesize(self, seeds, conditions=None):
        values = torch.tensor([float(seed % 9973) for seed in seeds])
        return {
            "image": values[:, None, None].expand(-1, 2, 3) + values.sum(),
            "label": torch.tensor([seed % 7 for seed in seeds]),
        }


def aligned(sequence, ids, batch_size):
    """What the samples must be: rows of freshly made aligned batches."""
    rows = []
    for k in ids:
        batch = sequence.batch(np.arange(k // batch_size * batch_size, (k // batch_size + 1) * batch_size))
        rows.append({name: value[k % batch_size] for name, value in batch.items()})
    return {name: torch.stack([row[name] for row in rows]) for name in sequence.fields}


def test_many_samples_are_those_that_few_are():
    """They are located and counted in different ways."""
    positions = np.arange(300) * 7 % 100
    with SyntheticPool(SyntheticSequence(BatchBound(), seed=3), 100, refresh=0.37, batch_size=13) as pool:
        for epoch in (0, 3):
            pool.set_epoch(epoch)
            served = pool.stats.served
            many, few = pool.read(positions), [pool.read(positions[start : start + 50]) for start in range(0, 300, 50)]
            assert all(torch.equal(many[name], torch.cat([part[name] for part in few])) for name in many)
            assert pool.stats.served == served + 600
        assert pool.stats.reuse_max >= 6
        for wrong in (np.append(positions, 100), np.append(positions, -1), np.array([3, 100]), np.array([-1])):
            with pytest.raises(SampleIndexError, match="positions"):
                pool.read(wrong)


@given(
    capacity=st.integers(1, 25),
    refresh=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
    batch_size=st.integers(1, 30),
    parts=st.integers(1, 3),
    epochs=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), max_size=6),
    background=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_window_law(capacity, refresh, batch_size, parts, epochs, background):
    sequence = SyntheticSequence(BatchBound(), seed=3)
    everywhere = np.arange(capacity)
    options = {"refresh": refresh, "refreshes_per_epoch": parts, "batch_size": batch_size, "background": background}
    with SyntheticPool(sequence, capacity, **options) as pool:
        for step, (epoch, part) in enumerate([(0, 0), *epochs]):
            part %= parts
            if step:
                pool.set_epoch(epoch, part)
            assert (pool.epoch, pool.part) == (pool.stats.epoch, pool.stats.part) == (epoch, part)
            ids = (epoch * parts + part) * round(refresh * capacity) + everywhere
            assert pool.ids(everywhere).tolist() == ids.tolist()
            read, expected = pool.read(everywhere[::-1]), aligned(sequence, ids[::-1], batch_size)
            for name in sequence.fields:
                assert torch.equal(read[name], expected[name])
            assert (pool.seeds(everywhere) == sequence.seeds(ids)).all()
            assert torch.equal(pool.column("label"), expected["label"].flip(0))
            assert pool.stats.served == (step + 1) * capacity


class TestConformance(SourceConformance):
    @pytest.fixture(autouse=True)
    def _pool(self):
        with SyntheticPool(self.sequence(), 12, refresh=0.5, batch_size=4) as self.pool:
            self.pool.set_epoch(2)
            yield

    def make(self):
        return self.pool

    def sequence(self):
        return SyntheticSequence(AnalyticSynthesizer((8, 8)), seed=5)


class TestConformanceSynchronous(TestConformance):
    @pytest.fixture(autouse=True)
    def _pool(self):
        with SyntheticPool(self.sequence(), 12, refresh=0.5, batch_size=4, background=False, device="cpu") as self.pool:
            yield


def test_empty_read_waits_for_nothing():
    release = threading.Event()

    class Waits(BatchBound):
        def synthesize(self, seeds, conditions=None):
            release.wait()
            return super().synthesize(seeds)

    with SyntheticPool(SyntheticSequence(Waits()), 4) as pool:
        assert pool.read(np.zeros(0, np.int64))["image"].shape == (0, 2, 3)
        assert pool.read(np.zeros(0, np.int64))["label"].shape == (0,)
        release.set()


@pytest.fixture
def sequence():
    return SyntheticSequence(BatchBound())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity": 0}, r"`capacity` must be an integer ≥ 1, got 0"),
        ({"capacity": 2.5}, r"`capacity` must be an integer ≥ 1, got 2\.5"),
        ({"capacity": True}, r"`capacity` must be an integer"),
        ({"batch_size": 0}, r"`batch_size` must be an integer ≥ 1, got 0"),
        ({"refresh": 1.1}, r"`refresh` must be a fraction in \[0, 1\], got 1\.1"),
        ({"refresh": float("nan")}, r"`refresh` must be a fraction in \[0, 1\], got nan"),
        ({"refresh": "much"}, r"`refresh` must be a fraction"),
        ({"refreshes_per_epoch": 0}, r"`refreshes_per_epoch` must be an integer ≥ 1, got 0"),
        ({"timeout_s": 0}, r"`timeout_s` must be a positive number of seconds, got 0"),
        ({"background": "thread"}, r"`background` must be True \(a thread\), 'process' or False, got 'thread'"),
        ({"sequence": BatchBound()}, r"SyntheticPool\(SyntheticSequence\(synthesizer\), capacity\)"),
    ],
)
def test_arguments_outside_their_domain(sequence, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        SyntheticPool(**{"sequence": sequence, "capacity": 4} | arguments)


def test_bad_positions_epochs_and_columns(sequence):
    with SyntheticPool(sequence, 4, batch_size=2) as pool:
        for method in (pool.read, pool.ids, pool.seeds):
            with pytest.raises(SampleIndexError, match=r"must be in \[0, 4\), got 0 to 4"):
                method(np.array([0, 4]))
            with pytest.raises(SampleIndexError, match=r"must be in \[0, 4\), got -1 to -1"):
                method(np.array([-1]))
            with pytest.raises(SampleIndexError, match="list of integers, got float64"):
                method(np.array([0.0]))
        with pytest.raises(ConfigurationError, match=r"`epoch` must be an integer ≥ 0, got -1"):
            pool.set_epoch(-1)
        with pytest.raises(ConfigurationError, match=r"ids below 2\^62"):
            pool.set_epoch(1 << 62)
        for part in (-1, 1):
            with pytest.raises(ConfigurationError, match=rf"`part` must be .*, got {part}"):
                pool.set_epoch(0, part)
        for name in ("image", "nothing"):
            with pytest.raises(ConfigurationError, match=r"one of the fields of single numbers, \['label'\], got"):
                pool.column(name)


def test_is_a_source_of_fixed_length(sequence):
    with SyntheticPool(sequence, np.int64(5), background=False) as pool:
        assert isinstance(pool, SyntheticSource)
        assert len(pool) == 5
        assert pool.fingerprint == sequence.fingerprint
        assert pool.fields == dict(sequence.fields)


@pytest.mark.parametrize("background", [True, False])
def test_stats_are_exact(sequence, background):
    with SyntheticPool(sequence, 8, refresh=0.5, batch_size=4, background=background) as pool:
        pool.set_epoch(0)
        pool.read(np.array([0, 1, 1, 1]))  # id 0 once, id 1 three times
        pool.set_epoch(1)
        pool.read(np.array([0, 0]))  # id 4 twice
        pool.set_epoch(3)  # ids 12 to 19; ids 0 to 7 leave the ring
        pool.read(np.array([7]))
        stats = pool.stats
        assert (stats.epoch, stats.window, stats.epochs_per_sample) == (3, (12, 20), 2)
        assert stats.served == 7
        assert stats.reuse_max == 3
        assert stats.reuse_mean == 7 / 4
        assert stats.generated >= 20
        if not background:
            assert stats.generated == 20
        assert stats.fill_s > 0
        assert stats.samples_per_s == stats.generated / stats.fill_s
        assert stats.wait_s > 0
        assert stats.worker_wait_s == 0
        assert "\n" not in repr(pool)
        assert "epoch 3: ids [12, 20)" in repr(pool)
    assert pool.stats.served == 7
    assert "closed" in repr(pool)


def test_closed(sequence):
    pool = SyntheticPool(sequence, 4, batch_size=2)
    view = pickle.loads(pickle.dumps(pool))
    pool.set_epoch(0)
    view.read(np.arange(4))
    pool.close()
    pool.close()
    for closed in (pool, view):
        with pytest.raises(PoolError, match=r"The pool is closed\. Build a new one"):
            closed.read(np.arange(2))
    with pytest.raises(PoolError, match="closed"):
        pool.set_epoch(1)
    with pytest.raises(PoolError, match="closed"):
        pickle.dumps(pool)


def test_a_view_follows_and_cannot_lead(sequence):
    with SyntheticPool(sequence, 6, refresh=0.5, batch_size=2) as pool:
        view = pickle.loads(pickle.dumps(pool))
        for epoch in (0, 1, 5, 2):
            pool.set_epoch(epoch)
            assert view.epoch == epoch
            assert torch.equal(
                view.read(np.arange(6))["image"], aligned(sequence, range(3 * epoch, 3 * epoch + 6), 2)["image"]
            )
        assert pool.stats.served == 24
        with pytest.raises(PoolError, match="must be called in the process that built the pool"):
            view.set_epoch(1)
        view.close()
        assert len(pool.read(np.arange(6))["image"]) == 6


@pytest.mark.parametrize("background", [True, False])
def test_for_ever_is_a_timeout(background):
    sequence = SyntheticSequence(AnalyticSynthesizer())
    with SyntheticPool(sequence, 4, batch_size=4, timeout_s=math.inf, background=background) as pool:
        assert len(pool.read(np.arange(4))["image"]) == 4
