"""DataLoader workers read the pool: forked, spawned, persistent; while samples are being made; and when that fails."""

import gc
import os
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tests import interpreter
from torchgenaug.errors import PoolError
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.types import FieldSpec

IN_MODEL = threading.Lock()


@pytest.fixture(autouse=True)
def _no_old_loaders():
    """The iterator of an earlier test, collected in a forked worker in the middle of an import, breaks that import."""
    gc.collect()


class Busy:
    """Takes a while, works with convolutions, and holds a lock meanwhile, as libraries do."""

    fingerprint = "0" * 64

    def __init__(self, batch_s=0.0, fail_at=None, hang_at=None):
        self.batch_s, self.fail_at, self.hang_at = batch_s, fail_at, hang_at
        self.batches = 0

    @property
    def fields(self):
        return {"image": FieldSpec((1, 4, 4))}

    def synthesize(self, seeds, conditions=None):
        with IN_MODEL:
            self.batches += 1
            if self.batches == self.hang_at:
                time.sleep(3600)
            if self.batches == self.fail_at:
                raise ArithmeticError("the model gave up")
            torch.nn.functional.conv2d(torch.ones(4, 8, 32, 32), torch.ones(8, 8, 3, 3))
            time.sleep(self.batch_s)
            values = torch.tensor([float(seed >> 40) for seed in seeds])
            return {"image": values[:, None, None, None] * torch.linspace(1, 2, 16).reshape(4, 4)}


class PoolSamples(Dataset):
    """Hands out the pool's samples, one batch at a time, with the process that read them."""

    def __init__(self, pool, check_lock=False):
        self.pool, self.check_lock = pool, check_lock

    def __len__(self):
        return len(self.pool)

    def __getitems__(self, indices):
        free = True
        if self.check_lock:
            free = IN_MODEL.acquire(timeout=2)
            if free:
                IN_MODEL.release()
        samples = self.pool.read(np.array(indices))["image"]
        return [(k, sample, os.getpid(), free) for k, sample in zip(indices, samples, strict=True)]


def images(sequence, ids, batch_size):
    start = ids[0] // batch_size * batch_size
    made = [sequence.batch(np.arange(k, k + batch_size))["image"] for k in range(start, ids[-1] + 1, batch_size)]
    return torch.cat(made)[ids[0] - start : ids[-1] + 1 - start]


@pytest.mark.parametrize(
    ("start_method", "persistent", "workers", "background"),
    [("fork", False, 2, True), ("fork", True, 2, True), ("fork", True, 1, False), ("spawn", True, 1, True)],
)
def test_workers_see_every_epoch(start_method, persistent, workers, background):
    sequence = SyntheticSequence(AnalyticSynthesizer((8, 8)), seed=9)
    with SyntheticPool(sequence, 12, refresh=0.5, batch_size=5, background=background) as pool:
        loader = DataLoader(
            PoolSamples(pool),
            batch_size=4,
            num_workers=workers,
            persistent_workers=persistent,
            multiprocessing_context=start_method,
        )
        for epoch in (0, 1, 4):
            pool.set_epoch(epoch)
            got = list(loader)
            assert os.getpid() not in torch.cat([batch[2] for batch in got])
            expected = images(sequence, range(6 * epoch, 6 * epoch + 12), 5)
            assert torch.equal(torch.cat([batch[1] for batch in got]), expected)
        stats = pool.stats
        assert stats.served == 36
        assert stats.reuse_max == 2
        assert stats.reuse_mean == 36 / 30  # ids 0 to 17 and 24 to 35; 6 to 11 twice
        del loader


@pytest.mark.filterwarnings("ignore::torchgenaug.errors.CollapseWarning")  # 4 x 4 pixels look alike
def test_workers_wait_for_samples_and_forks_for_the_model():
    sequence = SyntheticSequence(Busy(batch_s=0.02))
    for _ in range(4):
        with SyntheticPool(sequence, 40, refresh=0.5, batch_size=4) as pool:
            loader = DataLoader(PoolSamples(pool, check_lock=True), batch_size=8, num_workers=2)
            got = list(loader)  # no set_epoch: the workers come before most samples
            assert all(free for batch in got for free in batch[3])
            assert torch.equal(torch.cat([batch[1] for batch in got]), images(sequence, range(40), 4))
            assert pool.stats.worker_wait_s > 0
            assert pool.stats.wait_s == 0


def test_many_workers_at_once_lose_no_count():
    with SyntheticPool(SyntheticSequence(AnalyticSynthesizer((4, 4))), 16, batch_size=16) as pool:
        pool.set_epoch(0)
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                for _ in range(200):
                    pool.read(np.zeros(5, np.int64))
                os._exit(0)
            children.append(child)
        for _ in range(200):
            pool.read(np.zeros(5, np.int64))
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        assert pool.stats.served == 4 * 200 * 5
        assert pool.stats.reuse_max == 4 * 200 * 5


def test_without_background_workers_never_wait_in_vain():
    with SyntheticPool(SyntheticSequence(Busy()), 8, batch_size=4, background=False) as pool:
        loader = DataLoader(PoolSamples(pool), batch_size=4, num_workers=1)
        with pytest.raises(PoolError, match="Call its `set_epoch` before the workers start") as raised:
            next(iter(loader))
        traceback.clear_frames(raised.tb)  # collected later, the iterator would wait five seconds for its worker
        pool.set_epoch(0)
        assert len(list(loader)) == 2


def test_a_failure_reaches_the_workers():
    with SyntheticPool(SyntheticSequence(Busy(fail_at=3)), 16, batch_size=4) as pool:
        loader = DataLoader(PoolSamples(pool), batch_size=4, num_workers=1)
        with pytest.raises(PoolError, match=r"could not make samples 8 to 11 \(seeds") as raised:
            list(loader)
        assert "ArithmeticError: the model gave up" in str(raised.value)
        assert "in synthesize" in str(raised.value)
        traceback.clear_frames(raised.tb)


def test_a_hung_model_reaches_the_workers():
    code = """
import sys; sys.path.insert(0, {folder!r})
from test_pool_workers import *
from torchgenaug.pool.making import filler
filler._EXIT_S = 0.1
pool = SyntheticPool(SyntheticSequence(Busy(hang_at=2)), 16, batch_size=4, timeout_s=0.5)
try:
    pool.set_epoch(0)
except PoolError as error:
    print("main:", error)
try:
    list(DataLoader(PoolSamples(pool), batch_size=4, num_workers=1))
except PoolError as error:
    print("worker:", error)
"""
    lines = run_script(code)
    assert "main: Waited for samples longer than `timeout_s` = 0.5 s: samples 4 to 7 are still being made" in lines
    assert "worker: Caught PoolError" in lines
    assert lines.count("samples 4 to 7 are still being made") >= 2


def test_a_reader_notices_that_the_owner_died():
    code = """
import sys; sys.path.insert(0, {folder!r})
from test_pool_workers import *
synthesizer = Busy()
pool = SyntheticPool(SyntheticSequence(synthesizer), 8, refresh=0.5, batch_size=4)
pool.set_epoch(0)
while pool.stats.generated < 12:
    time.sleep(0.01)
if os.fork() == 0:
    while pool.epoch != 2:
        time.sleep(0.01)
    try:
        pool.read(np.array([7]))
    except PoolError as error:
        os.write(1, str(error).encode())
    os._exit(0)
synthesizer.hang_at = 4
threading.Thread(target=pool.set_epoch, args=(2,), daemon=True).start()
while synthesizer.batches < 4:
    time.sleep(0.01)
time.sleep(0.2)
os._exit(0)
"""
    assert "The process that makes the samples" in run_script(code)


def run_script(code):
    script = code.replace("{folder!r}", repr(str(Path(__file__).parent)))
    done = interpreter.run(["-c", script])
    assert done.returncode == 0, done.stderr
    return done.stdout
