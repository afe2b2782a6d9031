"""What happens when the model fails, hangs, is slow, or the pool is given up while it works."""

import gc
import os
import pickle
import threading
import time
import traceback
import weakref

import numpy as np
import pytest
import torch

from torchgenaug import errors
from torchgenaug.errors import BadSampleError, PoolError
from torchgenaug.pool import SyntheticPool
from torchgenaug.pool.making import forks
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import FieldSpec


class Scripted:
    """Does before batch n what `before[n]` says; samples hold their seed."""

    fingerprint = "0" * 64

    def __init__(self, **before):
        self.before = {int(name.removeprefix("batch_")): action for name, action in before.items()}
        self.batches = 0
        self.threads = set()

    @property
    def fields(self):
        return {"image": FieldSpec((1, 2))}

    def synthesize(self, seeds, conditions=None):
        self.threads.add(threading.current_thread().name)
        self.batches += 1
        result = self.before.get(self.batches, lambda: None)()
        values = torch.tensor([float(seed >> 40) for seed in seeds])
        return {"image": values[:, None, None].expand(-1, 1, 2) * (1.0 if result is None else result)}


def fails():
    raise ArithmeticError("the model gave up")


def pool_of(synthesizer, capacity=8, **options):
    return SyntheticPool(
        SyntheticSequence(synthesizer, seed=1), capacity, **{"batch_size": 4, "refresh": 0.5} | options
    )


def wait_until(condition):
    while not condition():
        time.sleep(0.005)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("at", [1, 2])
def test_a_failure_appears_with_its_traceback_and_can_be_retried(background, at):
    with pool_of(Scripted(**{f"batch_{at}": fails}), background=background) as pool:
        with pytest.raises(
            PoolError, match=rf"could not make samples {4 * at - 4} to {4 * at - 1} \(seeds \d+"
        ) as raised:
            pool.set_epoch(0)
        cause = raised.value.__cause__
        assert isinstance(cause, ArithmeticError)
        assert "fails" in [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
        assert any("while synthesizing ids" in note for note in cause.__notes__)
        pool.set_epoch(0)
        assert torch.equal(pool.read(np.arange(8))["image"][:, 0, 0], seeds_as_values(pool))


def seeds_as_values(pool):
    return torch.tensor([float(int(seed) >> 40) for seed in pool.seeds(np.arange(len(pool)))])


def test_a_failure_of_what_is_made_ahead_appears_at_the_next_step():
    with pool_of(Scripted(batch_3=fails)) as pool:
        wait_until(lambda: pool._filler._error is not None)
        for _ in range(2):  # as long as nobody asks for another try
            with pytest.raises(PoolError, match="could not make samples 8 to 11"):
                pool.read(np.array([0]))
        pool.set_epoch(1)
        assert torch.equal(pool.read(np.arange(8))["image"][:, 0, 0], seeds_as_values(pool))


def test_set_epoch_tells_first_and_leaves_the_epoch_alone():
    with pool_of(Scripted(batch_3=fails)) as pool:
        wait_until(lambda: pool._filler._error is not None)
        with pytest.raises(PoolError, match="8 to 11"):
            pool.set_epoch(1)
        assert pool.epoch == 0
        pool.set_epoch(1)
        assert pool.epoch == 1


def test_even_an_exit_in_the_background_is_told():
    def leaves():
        raise SystemExit(3)

    with pool_of(Scripted(batch_1=leaves)) as pool, pytest.raises(PoolError, match="SystemExit: 3"):
        pool.set_epoch(0)


def test_bad_samples_are_told():
    with pool_of(Scripted(batch_2=lambda: float("nan"))) as pool:
        with pytest.raises(PoolError, match="holds NaN or Inf in 4 of 4 samples") as raised:
            pool.set_epoch(0)
        assert isinstance(raised.value.__cause__, BadSampleError)
        assert raised.value.__cause__.ids == (4, 5, 6, 7)


def test_a_hung_model_is_named_and_may_recover():
    release = threading.Event()
    with pool_of(Scripted(batch_2=release.wait), timeout_s=0.05) as pool:
        pool.read(np.arange(4))
        for wait in (lambda: pool.set_epoch(0), lambda: pool.read(np.array([4]))):
            with pytest.raises(PoolError, match=r"`timeout_s` = 0\.05 s: samples 4 to 7 are still being made"):
                wait()
        assert pool.stats.wait_s >= 0.1
        release.set()
        wait_until(lambda: pool.stats.generated >= 8)
        assert len(pool.read(np.array([4]))["image"]) == 1


def test_many_batches_may_take_longer_than_the_timeout():
    slow = {f"batch_{k}": lambda: time.sleep(0.1) for k in range(1, 9)}
    with pool_of(Scripted(**slow), capacity=32, timeout_s=0.5) as pool:
        pool.set_epoch(0)
        assert pool.stats.fill_s > 0.5


def test_the_next_epoch_is_made_while_this_one_trains():
    release = threading.Event()
    synthesizer = Scripted(batch_4=release.wait)
    with pool_of(synthesizer) as pool:
        pool.set_epoch(0)
        wait_until(lambda: pool.stats.generated == 12)
        assert synthesizer.threads == {"torchgenaug-pool"}
        waited = pool.stats.wait_s
        pool.set_epoch(1)  # while the model is stuck in what epoch 2 adds
        pool.read(np.arange(8))
        assert pool.stats.wait_s == waited
        release.set()


def test_without_background_no_thread_and_nothing_ahead():
    synthesizer = Scripted()
    with pool_of(synthesizer, background=False) as pool:
        assert synthesizer.batches == 0
        pool.read(np.array([0]))
        assert (synthesizer.batches, synthesizer.threads) == (2, {threading.current_thread().name})
        pool.set_epoch(1)
        assert synthesizer.batches == 3


def test_a_read_from_within_the_model_is_an_error_and_no_deadlock():
    pools = []
    with pool_of(Scripted(batch_1=lambda: pools[0].read(np.arange(1))), background=False) as pool:
        pools.append(pool)
        with pytest.raises(PoolError, match="could not make samples 0 to 3") as raised:
            pool.read(np.arange(8))
        assert "made by the very thread that asks" in str(raised.value.__cause__)
        assert len(pool.read(np.arange(8))["image"]) == 8


def test_a_jump_discards_what_nobody_needs_any_more():
    started, release = threading.Event(), threading.Event()

    def waits():
        started.set()
        release.wait()

    with pool_of(Scripted(batch_1=waits)) as pool:
        started.wait()
        mover = threading.Thread(target=pool.set_epoch, args=(10,))
        mover.start()
        wait_until(lambda: pool.epoch == 10)
        release.set()
        mover.join()
        assert torch.equal(pool.read(np.arange(8))["image"][:, 0, 0], seeds_as_values(pool))


def test_a_read_that_is_moved_away_from_raises():
    release = threading.Event()
    raised = []
    with pool_of(Scripted(batch_2=release.wait)) as pool:
        wait_until(lambda: pool.stats.generated == 4)

        def read():
            try:
                pool.read(np.array([7]))
            except PoolError as error:
                raised.append(str(error))

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: pool._filler._gate.changed._waiters)
        mover = threading.Thread(target=pool.set_epoch, args=(10,))
        mover.start()
        reader.join()
        release.set()
        mover.join()
    assert "moved to epoch 10 while epoch 0 was being read" in raised[0]


def test_an_overwritten_slot_is_never_handed_out(monkeypatch):
    with pool_of(Scripted(), background=False) as pool:
        pool.set_epoch(0)
        copy = pool._ring.copy

        def overtaken(ids, names):
            batch = copy(ids, names)
            pool.set_epoch(5)
            return batch

        monkeypatch.setattr(pool._ring, "copy", overtaken)
        with pytest.raises(PoolError, match="moved to epoch 5 while epoch 0"):
            pool.read(np.array([0]))
        assert pool.stats.served == 0


def test_close_waits_for_the_batch_in_flight_only():
    started, release = threading.Event(), threading.Event()

    def waits():
        started.set()
        release.wait()

    synthesizer = Scripted(batch_1=waits)
    pool = pool_of(synthesizer)
    thread = pool._filler._thread
    started.wait()
    threading.Timer(0.05, release.set).start()
    pool.close()
    assert not thread.is_alive()
    assert synthesizer.batches == 1


def test_close_says_when_the_model_does_not_end():
    release = threading.Event()
    pool = pool_of(Scripted(batch_1=release.wait), timeout_s=0.05)
    wait_until(lambda: pool._ring.get("making") == 0)
    thread = pool._filler._thread
    with pytest.warns(RuntimeWarning, match=r"still runs 0\.05 s after the pool was closed"):
        pool.close()
    release.set()
    thread.join()


def test_a_collected_pool_leaves_no_thread_no_memory_and_no_descriptor():
    gc.collect()  # of other tests
    descriptors = len(os.listdir("/proc/self/fd"))
    pool = pool_of(Scripted())
    pool.set_epoch(0)
    thread, ring = pool._filler._thread, weakref.ref(pool._ring)
    del pool
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    gc.collect()
    assert ring() is None
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_failed_pool_is_collected_too():
    pool = pool_of(Scripted(batch_1=fails))
    with pytest.raises(PoolError):
        pool.set_epoch(0)
    thread, ring = pool._filler._thread, weakref.ref(pool._ring)
    del pool
    gc.collect()
    thread.join(10)
    gc.collect()
    assert ring() is None


def test_a_model_may_fork():
    def forks():
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    with pool_of(Scripted(batch_1=forks, batch_3=forks)) as pool:
        pool.set_epoch(0)
        pool.set_epoch(1)


def test_the_thread_computes_with_as_many_threads_as_its_process():
    seen = []
    with pool_of(Scripted(batch_1=lambda: seen.append(torch.get_num_threads()))) as pool:
        pool.set_epoch(0)
    assert seen == [torch.get_num_threads()]


@pytest.mark.gpu
def test_on_a_device_the_pool_serves_its_own_process_only():
    import pickle

    with pool_of(Scripted(), device="cuda") as pool:
        for epoch in (0, 3):
            pool.set_epoch(epoch)
            image = pool.read(np.arange(8))["image"]
            assert image.is_cuda
            assert torch.equal(image[:, 0, 0].cpu(), seeds_as_values(pool))
        with pytest.raises(PoolError, match="can be read only by the process that built it"):
            pickle.dumps(pool)


class NastyError(Exception):
    """Its text cannot be made, nor can anything else of it."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__

    def __reduce__(self):
        raise RuntimeError("no pickle")


class Worse(BaseException):
    def __str__(self):
        return 3


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("kind", [NastyError, Worse])
def test_an_exception_without_a_text_is_named_at_once(background, kind):
    def fails_nastily():
        raise kind

    pool = pool_of(Scripted(batch_1=fails_nastily), background=background, timeout_s=600)  # longer than a test may take
    view = pickle.loads(pickle.dumps(pool))
    with pytest.raises((PoolError, kind)) as raised:
        pool.set_epoch(0)
    if raised.type is PoolError:
        assert f"{kind.__name__} (its text cannot be made" in str(raised.value)
    if background:
        with pytest.raises(PoolError, match=kind.__name__):
            view.read(np.arange(4))
    pool.set_epoch(0)
    pool.close()


def test_an_exception_whose_text_waits_is_named_all_the_same(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(errors, "_TEXT_S", 0.05)

    class WaitingError(Exception):
        def __str__(self):
            release.wait()
            return "late"

    def fails():
        raise WaitingError

    try:
        with (
            pool_of(Scripted(batch_1=fails), timeout_s=600) as pool,
            pytest.raises(PoolError, match=r"WaitingError \(its text cannot be made: TimeoutError\)"),
        ):
            pool.set_epoch(0)
    finally:
        release.set()


class ReadsAnotherPool(Scripted):
    """A model that reads a pool, as a second stage reads the first one's images."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def synthesize(self, seeds, conditions=None):
        time.sleep(0.02)
        self.inner.set_epoch(self.inner.epoch + 1)
        self.inner.read(np.arange(4))
        return super().synthesize(seeds, conditions)


@pytest.mark.parametrize("inner_first", [True, False])
def test_a_fork_does_not_wait_for_a_pool_inside_a_pool(inner_first, monkeypatch):
    inner = pool_of(Scripted(), 4, refresh=1.0, timeout_s=600)  # longer than a test may take
    outer = pool_of(ReadsAnotherPool(inner), refresh=1.0, timeout_s=600)
    if not inner_first:  # a fork meets them in the order in which they were built
        order = [gate for gate in forks.alive() if gate in (inner._filler._gate, outer._filler._gate)]
        monkeypatch.setattr(forks, "alive", lambda: order[::-1])
    with inner, outer:
        for epoch in range(3):
            outer.set_epoch(epoch)
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)


def test_close_gives_the_memory_back_at_once():
    def maps():
        with open("/proc/self/maps") as file:
            return file.read().count("torchgenaug-pool")

    gc.collect()
    before = maps()
    pool = pool_of(Scripted(), 4096)
    pool.set_epoch(0)
    assert maps() > before
    pool.close()
    assert maps() == before
    assert pool.stats.generated > 0
