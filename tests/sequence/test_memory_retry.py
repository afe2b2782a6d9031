"""Where memory runs out, the model gets half as much; the size is kept, and nothing else is taken for it."""

import errno
import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgenaug.sequence.memory_retry import MemoryRetry, is_out_of_memory
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import FieldSpec


class Bounded:
    """Fits `largest` samples at once, and fails with `error` otherwise; uses its buffer again, as CUDA graphs do."""

    fingerprint = "0" * 64

    def __init__(self, largest, error=None):
        self.largest, self.error, self.calls = largest, error or torch.OutOfMemoryError("CUDA out of memory."), []
        self.buffer = torch.zeros(4096, 1)

    @property
    def fields(self):
        return {"value": FieldSpec((1,))}

    def synthesize(self, seeds, conditions=None):
        self.calls.append(len(seeds))
        if len(seeds) > self.largest:
            raise type(self.error)(*self.error.args)  # a new one: an exception keeps the frames that it went through
        self.buffer[: len(seeds), 0] = torch.tensor([float(seed >> 40) for seed in seeds])
        return {"value": self.buffer[: len(seeds)]}


TEXTS = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "HIP out of memory. Tried to allocate 20 MiB",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate",
    "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
    "MPS backend out of memory (MPS allocated: 8.93 GB, other allocations: 384.00 KB, max allowed: 9.07 GB).",
    "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    "std::bad_alloc",
]
ERRORS = [*map(RuntimeError, TEXTS), torch.OutOfMemoryError(), MemoryError(), OSError(errno.ENOMEM, "no memory")]
OTHERS = [
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    ValueError("CUDA out of memory"),
    OSError(errno.ENOSPC, "full"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__} {str(error)[:40]}")
def test_all_known_texts_are_recognised(error):
    assert is_out_of_memory(error)
    retry = MemoryRetry(SyntheticSequence(Bounded(9, error)))
    assert len(retry.batch(np.arange(16))["value"]) == 16
    assert (retry.call_size, retry.failures) == (8, 1)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_nothing_else_is_taken_for_it(error):
    model = Bounded(1, error)
    with pytest.raises(type(error)):
        MemoryRetry(SyntheticSequence(model)).batch(np.arange(8))
    assert model.calls == [8]


def test_what_a_library_wrapped_is_recognised():
    wrapped = ValueError("the pipeline failed")
    wrapped.__cause__ = MemoryError()
    assert is_out_of_memory(wrapped)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 10**9))
@settings(deadline=None, max_examples=12)
def test_the_samples_are_those_of_one_call(count, largest, start):
    ids = np.arange(start, start + count)
    model = Bounded(largest)
    retry = MemoryRetry(SyntheticSequence(model))
    expected = SyntheticSequence(Bounded(count)).batch(ids)["value"]
    assert torch.equal(retry.batch(ids)["value"], expected)
    # The first size that fits on the way of halves, and no detour to it.
    halves = [count]
    while halves[-1] > largest:
        halves.append(halves[-1] // 2)
    assert model.calls[: len(halves)] == halves
    assert retry.failures == len(halves) - 1
    model.calls.clear()
    retry.batch(ids)
    assert max(model.calls) == halves[-1]  # it is remembered
    assert sum(model.calls) == count


def test_six_halvings_at_most_from_64_and_then_a_note():
    model = Bounded(0)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        MemoryRetry(SyntheticSequence(model)).batch(np.arange(64))
    assert model.calls == [64, 32, 16, 8, 4, 2, 1]
    assert any("Not even one sample at a time fits" in note for note in raised.value.__notes__)


def test_the_memory_of_the_failed_call_is_free_in_the_next():
    held = []

    class Leaky(Bounded):
        def synthesize(self, seeds, conditions=None):
            gc.collect()
            assert not any(reference() is not None for reference in held)
            activations = torch.zeros(len(seeds))
            held.append(weakref.ref(activations))
            return super().synthesize(seeds)

    assert len(MemoryRetry(SyntheticSequence(Leaky(2, None))).batch(np.arange(8))["value"]) == 8
    assert len(held) == 2 + 4


class TextlessError(RuntimeError):
    def __str__(self):
        raise KeyboardInterrupt


def test_causes_in_a_circle_and_errors_without_a_text_are_looked_at_once():
    first, second = RuntimeError("first"), TextlessError()
    first.__cause__, second.__cause__ = second, first
    assert not is_out_of_memory(first)
    second.__cause__ = MemoryError()
    assert is_out_of_memory(first)
