"""Shared memory: seen by all, left behind by none, reserved before it is used, and checked against what is there."""

import errno
import gc
import os
import pickle
import random
import re
import signal
import threading

import numpy as np
import pytest
import torch

from torchgenaug.errors import ConfigurationError, PoolError
from torchgenaug.pool import SyntheticPool, fit
from torchgenaug.pool.storage import memory
from torchgenaug.pool.storage.memory import SharedMemory
from torchgenaug.pool.storage.window import Window
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer


@pytest.fixture
def sequence():
    return SyntheticSequence(AnalyticSynthesizer((8, 8)))


def test_forks_and_copies_see_the_same_bytes():
    shared = SharedMemory(100)
    copy = pickle.loads(pickle.dumps(shared))
    child = os.fork()
    if child == 0:
        shared.buffer[7:10] = b"abc"
        os._exit(0)
    os.waitpid(child, 0)
    assert shared.buffer[7:10] == copy.buffer[7:10] == b"abc"
    assert shared.buffer[10:] == bytes(90)


def test_a_copy_of_what_is_gone():
    shared = SharedMemory(100)
    pickled = pickle.dumps(shared)
    del shared
    with pytest.raises(PoolError, match="only on the machine and during the life of the process that owns it"):
        pickle.loads(pickled)
    with open(os.devnull), pytest.raises(PoolError, match="The pool that was pickled is gone"):
        pickle.loads(pickled)  # the file has the same number now


def test_a_killed_process_blocks_nobody():
    shared = SharedMemory(8)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        shared.exclusive(lambda: (os.write(writer, b"x"), threading.Event().wait()))
    os.read(reader, 1)
    entered = threading.Event()

    thread = threading.Thread(target=shared.exclusive, args=(entered.set,))
    thread.start()
    assert not entered.wait(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert entered.wait(10)
    thread.join()
    os.close(reader)
    os.close(writer)


def test_a_fork_may_come_while_another_thread_is_inside():
    shared = SharedMemory(8)
    inside, release = threading.Event(), threading.Event()

    thread = threading.Thread(target=shared.exclusive, args=(lambda: (inside.set(), release.wait()),))
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        shared.exclusive(lambda: os._exit(0))
    release.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


class Interrupted(BaseException):
    """Raised by a signal handler, as KeyboardInterrupt is."""


@pytest.fixture
def alarms():
    """``alarms(handler)`` calls a handler once, at a random moment."""
    chance, before = random.Random(0), signal.getsignal(signal.SIGALRM)

    def start(handler):
        signal.signal(signal.SIGALRM, lambda number, frame: handler())
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 5e-4))

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_interrupts_leave_no_lock_taken(alarms):
    shared, interrupts = SharedMemory(8), 0

    def interrupt():
        raise Interrupted

    while interrupts < 3000:
        try:
            alarms(interrupt)
            while True:
                shared.exclusive(int)
        except Interrupted:
            interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    entered = threading.Event()
    threading.Thread(target=shared.exclusive, args=(entered.set,), daemon=True).start()
    assert entered.wait(5)
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # ends the child, if it waits
        shared.exclusive(lambda: os._exit(0))
    assert os.waitpid(child, 0)[1] == 0


def test_a_signal_handler_may_use_the_pool(alarms, sequence):
    with SyntheticPool(sequence, 8, refresh=0.0, batch_size=4) as pool:
        for _ in range(300):
            called = []
            alarms(lambda: called.append((repr(pool), pool.read(np.arange(2)))))  # noqa: B023
            while not called:
                pool.read(np.arange(4))


@pytest.mark.parametrize("refusal", ["absent", "forbidden"])
def test_without_memfd_create(monkeypatch, sequence, refusal):
    def forbidden(name):
        raise PermissionError

    if refusal == "absent":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", forbidden)
    with SyntheticPool(sequence, 4, batch_size=4) as pool:
        view = pickle.loads(pickle.dumps(pool))
        assert torch.equal(view.read(np.arange(4))["image"], sequence.batch(np.arange(4))["image"])


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("refresh", [0.0, 0.3, 1.0])
def test_the_largest_capacity_that_fits(monkeypatch, sequence, background, refresh):
    monkeypatch.setattr(fit, "available_bytes", lambda: 200_000)
    options = {"refresh": refresh, "batch_size": 4, "background": background}
    with pytest.raises(ConfigurationError) as raised:
        SyntheticPool(sequence, 10**9, **options)
    message = str(raised.value)
    assert re.search(r"`capacity` must fit into memory, got 1000000000: \d+ samples need [\d,]+ bytes", message)
    assert "200,000 bytes are free, of which a pool takes at most 90%" in message
    largest = int(re.search(r"The largest capacity that fits is (\d+)", message)[1])
    with SyntheticPool(sequence, largest, **options) as pool:
        assert 150_000 < pool._ring.memory.size <= 180_000
    with pytest.raises(ConfigurationError, match="must fit into memory"):
        SyntheticPool(sequence, largest + 8, **options)


def test_not_even_one_batch_fits(monkeypatch, sequence):
    monkeypatch.setattr(fit, "available_bytes", lambda: 1000)
    with pytest.raises(ConfigurationError, match=r"Not even one batch: lower `batch_size`\."):
        SyntheticPool(sequence, 1)


@pytest.mark.parametrize("known", [10**12, None])
def test_pages_are_reserved_beforehand(monkeypatch, sequence, known):
    def full(descriptor, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    gc.collect()  # of other tests
    descriptors = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(fit, "available_bytes", lambda: known)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ConfigurationError, match=r"cannot be reserved: .*No space left.*Lower `capacity`"):
        SyntheticPool(sequence, 4)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_device_without_room_is_told_like_a_host_without_it(monkeypatch):
    class Full:
        num_bytes = staticmethod(fit.Ring.num_bytes)

        def __new__(cls, *args):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    free = {"bytes": 10**9}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free["bytes"], 10**10))
    monkeypatch.setattr(fit, "Ring", Full)
    fields = AnalyticSynthesizer((8, 8)).fields
    with pytest.raises(ConfigurationError, match=r"64 samples need 49,152 bytes on cuda, which cannot"):
        fit.build_ring(Window(64, 0, 32, 0), fields, torch.device("cuda"))
    free["bytes"] = 40_000
    with pytest.raises(ConfigurationError, match=r"on cuda, and 40,000 bytes are free.* that fits is 32\."):
        fit.build_ring(Window(64, 0, 32, 0), fields, torch.device("cuda"))


def test_available_bytes_knows_machine_and_container(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 64 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available_bytes() == 65536
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("9000\n")
    assert memory.available_bytes() == 65536
    (tmp_path / "memory.max").write_text("10000\n")
    assert memory.available_bytes() == 1000
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 500\n")
    assert memory.available_bytes() == 1500
    (tmp_path / "memory.current").write_text("20000\n")
    assert memory.available_bytes() == 0
    (tmp_path / "meminfo").unlink()
    (tmp_path / "memory.max").unlink()
    assert memory.available_bytes() is None
