"""`SourceDataset`: gives a source the indexing of a `torch.utils.data.Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from torchgenaug.sources.positions import checked_index
from torchgenaug.sources.rows import Rows
from torchgenaug.types import Batch, Sample


class SourceDataset(Dataset[Sample]):
    """A source that a `DataLoader` can read: sample k is a dict of its fields, tensors without the batch axis.

    For classes that have ``__len__`` and ``read(positions)``. A `DataLoader` reads each batch with one call of `read`.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from torchgenaug import SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
        >>> source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 10)
        >>> source[-1]["image"].shape
        torch.Size([1, 8, 8])
        >>> next(iter(DataLoader(source, batch_size=4)))["image"].shape
        torch.Size([4, 1, 8, 8])
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def read(self, positions: npt.NDArray[np.int64]) -> Batch:
        """Samples at `positions`, as in `torchgenaug.contracts.SyntheticSource`."""
        raise NotImplementedError(f"{type(self).__name__} must define read")

    def __getitem__(self, index: Any) -> Sample:
        """Sample `index`: field → tensor. Negative and NumPy integers are accepted.

        Raises:
            SampleIndexError: not an integer, or outside ``range(-len(self), len(self))``.
        """
        batch = self.read(np.array([checked_index(index, len(self))], np.int64))
        return {name: values[0] for name, values in batch.items()}

    def __getitems__(self, indices: Sequence[Any]) -> Sequence[Sample]:
        """Samples at `indices`, read together: views of one batch, which torch's `default_collate` hands out as it is.

        Raises as for a single index.
        """
        if not len(indices):
            return []
        length, positions = len(self), np.array(indices)
        if positions.dtype != np.int64 or positions.ndim != 1 or positions.min() < 0 or positions.max() >= length:
            positions = np.array([checked_index(index, length) for index in indices], np.int64)
        return Rows(self.read(positions))
