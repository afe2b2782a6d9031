"""`MapSource`: any map-style data set of synthetic samples, already in the real data set's own sample type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug.contracts import SyntheticSource
from torchgenaug.mixing.dataset.labels import whole_labels
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.own_copy import OwnCopy
from torchgenaug.samples.random_state import random_state_restored


class MapSource:
    """Synthetic samples from a data set with ``__len__`` and ``__getitem__``; nothing is read until a sample is needed.

    Args:
        dataset: the synthetic samples.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on, if the data set has ``set_epoch``."""
        move = getattr(self.dataset, "set_epoch", None)
        if callable(move):
            move(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def samples(self, positions: list[int]) -> list[Any]:
        """The samples at `positions`, as the data set hands them out."""
        dataset = self.dataset
        if reads_batches(dataset):
            return list(dataset.__getitems__(positions))
        return [dataset[place] for place in positions]

    def labels(self, name: str, layout: SampleLayout) -> npt.NDArray[np.int64]:
        """A scalar field of all samples; reads every one of them, through a copy of the data set."""
        return whole_labels(self._values(name, layout), name)

    def _values(self, name: str, layout: SampleLayout) -> Iterator[Any]:
        copy = OwnCopy(self.dataset)
        with random_state_restored():
            for k in range(len(self)):
                yield layout.split(copy[k])[name]


def reads_batches(dataset: object) -> bool:
    """Whether a data set hands out whole batches, with ``__getitems__``."""
    return callable(getattr(dataset, "__getitems__", None))


def as_source(synthetic: Any) -> SyntheticSource | MapSource:
    """The synthetic samples as something to read: a source as it is, a data set wrapped."""
    return synthetic if isinstance(synthetic, SyntheticSource) else MapSource(synthetic)
