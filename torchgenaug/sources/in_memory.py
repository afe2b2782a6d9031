"""`InMemorySource`: the first samples of a sequence, kept in memory."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.sources.dataset import SourceDataset
from torchgenaug.types import Batch


class InMemorySource(SourceDataset):
    """The first `count` samples of a sequence, generated at once and kept in memory.

    Attributes:
        seconds: how long it took to generate them.
    """

    def __init__(self, sequence: SyntheticSequence, count: int) -> None:
        self.fields, self.fingerprint, self._count = sequence.fields, sequence.fingerprint, count
        self.trained_on = sequence.trained_on
        every, began = np.arange(count), time.perf_counter()
        self._batch = sequence.batch(every) if count else {}
        self.seconds = time.perf_counter() - began
        self._seeds = sequence.seeds(every) if count else np.zeros(0, np.uint64)

    def __len__(self) -> int:
        return self._count

    def read(self, positions: npt.NDArray[np.int64]) -> Batch:
        """See `torchgenaug.contracts.SyntheticSource`, here and below."""
        rows = torch.from_numpy(positions)
        return {name: values[rows] for name, values in self._batch.items()}

    def read_into(self, positions: npt.NDArray[np.int64], out: Batch) -> None:
        """`read`, into tensors that are there."""
        rows = torch.from_numpy(positions)
        for name, values in out.items():
            values.copy_(torch.index_select(self._batch[name], 0, rows))

    def ids(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Position k holds sample k."""
        return positions

    def seeds(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The seeds of the samples."""
        return self._seeds[positions]

    def column(self, field: str) -> torch.Tensor:
        """One scalar field of all samples."""
        return self._batch[field]
