"""`MemoryRetry`: a batch in several smaller calls of the model, where memory does not suffice for one."""

from __future__ import annotations

import errno
import gc
import re
from collections.abc import Sequence

import numpy as np
import torch

from torchgenaug import devices
from torchgenaug.errors import describe_error
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import Batch

# What torch, its libraries and its devices say, apart from the classes torch.OutOfMemoryError and MemoryError.
_TEXTS = re.compile(
    r"(CUDA|HIP|XPU|MPS backend) out of memory"
    r"|(CUDA|HIP|MPS) error: out of memory"
    r"|cudaErrorMemoryAllocation"
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE|HIPBLAS)_STATUS_\w*ALLOC\w*_FAILED"
    r"|CUFFT_ALLOC_FAILED"
    r"|OUT_OF_(DEVICE|HOST)_MEMORY"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory"
    r"|std::bad_alloc"
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether `error`, or what it was raised from, says that the memory of a device or of the host ran out."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # causes may form a circle: `raise error from error`
        seen.add(id(error))
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and _TEXTS.search(describe_error(error)):
            return True
        error = error.__cause__
    return False


class MemoryRetry:
    """Makes batches of a sequence. Where memory runs out, the model is given half as many samples at once.

    From 64 samples on, six halvings lead to one. The size that fits is kept for later batches, and a smaller call may
    change the last bits of a sample (at most 1e-4), so record `call_size` with the samples. Not for two threads at
    once.

    Args:
        sequence: makes the samples.

    Attributes:
        call_size: how many samples the model is given at once at most; None as long as memory never ran out.
        failures: how often memory ran out.

    Example:
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> retry = MemoryRetry(SyntheticSequence(AnalyticSynthesizer()))
        >>> retry.batch([0, 1, 2])["image"].shape, retry.call_size
        (torch.Size([3, 1, 32, 32]), None)
    """

    def __init__(self, sequence: SyntheticSequence) -> None:
        self._sequence = sequence
        self.call_size: int | None = None
        self.failures = 0

    def batch(self, ids: Sequence[int] | np.ndarray) -> Batch:
        """Samples `ids`, as `SyntheticSequence.batch` returns them.

        Raises:
            Exception: whatever the sequence raises; where not even a single sample fits, the error of the memory, with
                a note that says so.
        """
        parts: list[Batch] = []
        start = 0
        while start < len(ids):
            size = min(len(ids) - start, self.call_size or len(ids))
            part = self._attempt(ids[start : start + size])
            if part is None:
                self.call_size = size // 2
            else:
                parts.append(part)
                start += size
        if len(parts) == 1:
            return parts[0]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _attempt(self, ids: Sequence[int] | np.ndarray) -> Batch | None:
        """The samples, or None where memory ran out and fewer samples may fit."""
        try:
            # A copy where there will be others: the model may use its buffers again.
            batch = self._sequence.batch(ids)
            return batch if self.call_size is None else {name: value.clone() for name, value in batch.items()}
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            self.failures += 1
            if len(ids) == 1:
                error.add_note(
                    "Not even one sample at a time fits into memory. "
                    "Free some, use a smaller model or dtype, or render on another device: render_shards(...)."
                )
                raise
        # Only now, after the exception and the frames that it holds are gone, the failed call's memory is free.
        gc.collect()
        devices.empty_cache()
        return None
