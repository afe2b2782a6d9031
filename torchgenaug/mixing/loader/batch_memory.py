"""`BatchMemory`: memory for mixed batches, used again as soon as nobody holds the batch that lay there.

A batch that takes new memory each time costs more than its copy: the kernel clears the pages one by one (2 µs each on a
virtual machine, 1 MiB has 256 of them), and the allocator finds less room for the tensors of the training step, so that
those take new pages, too. Measured with a small classifier on a CPU: up to 1,000 pages more per step, 15 % of its time.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes, as torch's own
_MOST_BLOCKS = 3  # per field: for the batch that is made, the one that the loop uses, and one that it may still hold
_MOST_FORMS = 16


class BatchMemory:
    """The memory of the batches of one pass, for one thread."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[_Block]] = {}
        self._dtypes: dict[torch.dtype, np.dtype[Any] | None] = {}

    def place(self, field: int, like: Tensor, kept: int, added: int) -> tuple[Tensor, Tensor, Tensor]:
        """A tensor for a field of a batch of ``kept + added`` rows, its first `kept` rows, and its last `added` ones.

        The first is to be handed out; the parts are for writing, now. Nothing in it says that its memory was used
        before. A field that is not on the CPU, or has no dtype of numpy, gets new memory.

        Args:
            field: which field of the batch it is.
            like: says dtype, device and shape of the rows.
            kept: number of real rows.
            added: number of synthetic rows.
        """
        shape = (kept + added, *like.shape[1:])
        dtype = self._dtype(like.dtype) if like.device.type == "cpu" else None
        if dtype is None:
            whole = torch.empty(shape, dtype=like.dtype, device=like.device)
            return whole, whole.narrow(0, 0, kept), whole.narrow(0, kept, added)
        blocks = self._blocks.setdefault(field, [])
        for block in blocks:
            if block.is_free and block.fits(shape, dtype):
                return block.take(shape[0], kept)
        made = _Block(shape, dtype)
        blocks[:] = [block for block in blocks if not block.is_free]  # those that are free do not fit
        if len(blocks) < _MOST_BLOCKS:
            blocks.append(made)
        return made.take(shape[0], kept)

    def _dtype(self, dtype: torch.dtype) -> np.dtype[Any] | None:
        if dtype not in self._dtypes:
            try:
                self._dtypes[dtype] = torch.empty(0, dtype=dtype).numpy().dtype
            except TypeError:  # bfloat16 and others that numpy does not have
                self._dtypes[dtype] = None
        return self._dtypes[dtype]


class _Block:
    """Memory for a tensor of so many rows, or of fewer, and what is kept of it to write into."""

    __slots__ = ("_array", "_handed", "_parts", "_whole")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        size = math.prod(shape) * dtype.itemsize
        raw = np.empty(size + _ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        self._array: npt.NDArray[Any] = raw[start : start + size].view(dtype).reshape(shape)
        self._whole = torch.from_numpy(self._array)
        self._parts: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._handed: weakref.ref[npt.NDArray[Any]] | None = None

    @property
    def is_free(self) -> bool:
        """Whether nobody holds the tensor that was handed out, or another one with its storage."""
        return self._handed is None or self._handed() is None

    def fits(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Whether a tensor can lie here without wasting more than half."""
        mine = self._array
        return mine.dtype == dtype and mine.shape[1:] == shape[1:] and shape[0] <= len(mine) <= 2 * shape[0]

    def take(self, size: int, kept: int) -> tuple[Tensor, Tensor, Tensor]:
        """The tensor of `size` rows, and its parts; see `BatchMemory.place`."""
        # The storage of the tensor, which views of it, autograd and others share, holds this array; nobody else does.
        handed = self._array[:size]
        self._handed = weakref.ref(handed)
        if (size, kept) not in self._parts:
            if len(self._parts) == _MOST_FORMS:
                self._parts.clear()
            self._parts[size, kept] = self._whole.narrow(0, 0, kept), self._whole.narrow(0, kept, size - kept)
        return torch.from_numpy(handed), *self._parts[size, kept]
