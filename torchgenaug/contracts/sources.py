"""What a source of samples must do, and what it may do as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.types import Batch, FieldSpec


@runtime_checkable
class SyntheticSource(Protocol):
    """An indexed supply of synthetic samples: `SyntheticPool`, `ShardSource`, or your own.

    Read-only and safe in forked and spawned DataLoader workers. A class that inherits from
    `torchgenaug.sources.dataset.SourceDataset` is a `torch.utils.data.Dataset` as well.
    """

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """What every sample holds."""
        ...

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the sequence that the samples belong to."""
        ...

    def __len__(self) -> int:
        """How many samples there are to choose from."""
        ...

    def read(self, positions: npt.NDArray[np.int64]) -> Batch:
        """Samples at `positions` (each in ``range(len(self))``, repeats allowed), stacked in that order."""
        ...

    def ids(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which sample of the sequence each position holds now."""
        ...

    def seeds(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The seed that each position's sample was made from."""
        ...

    def column(self, field: str) -> torch.Tensor:
        """One scalar field of all samples, (len,), without reading any images."""
        ...


@runtime_checkable
class Scored(Protocol):
    """A source whose samples have a score each, such as the one that a filter kept them by: it enters provenance."""

    def scores_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The score of each position's sample, (n,)."""
        ...


@runtime_checkable
class Filtered(Scored, Protocol):
    """A `Scored` source that a filter made: its acceptance rate enters provenance, too."""

    @property
    def acceptance_rate(self) -> float:
        """Fraction of the samples that were kept, in (0, 1]."""
        ...


@runtime_checkable
class ReadsInto(Protocol):
    """A source that reads into tensors that exist: `SyntheticMixLoader` saves a copy with it."""

    def read_into(self, positions: npt.NDArray[np.int64], out: Batch) -> None:
        """`SyntheticSource.read` into `out`: some of the fields, each contiguous (n, *spec.shape), on any device."""
        ...


@runtime_checkable
class Changing(Protocol):
    """A source whose content depends on the epoch."""

    @property
    def epoch(self) -> int:
        """Where it is, so that a mix notices when somebody else moved it."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Moves to `epoch`; called in the main process."""
        ...


@runtime_checkable
class ChangingWithinEpoch(Protocol):
    """A source whose content changes within an epoch, too."""

    @property
    def refreshes_per_epoch(self) -> int:
        """Number of parts of an epoch."""
        ...

    @property
    def part(self) -> int:
        """Which part it is at, in ``range(refreshes_per_epoch)``."""
        ...

    def set_epoch(self, epoch: int, part: int = 0) -> None:
        """Moves to a part of `epoch`."""
        ...


@runtime_checkable
class Ranked(Protocol):
    """A source that may hold other samples in each of the processes that train together."""

    @property
    def world_size(self) -> int:
        """How many processes have samples of their own; 1: all have the same."""
        ...


@runtime_checkable
class Joined(Protocol):
    """A source that holds samples of several sequences."""

    def fingerprints(self, positions: npt.NDArray[np.int64]) -> list[str]:
        """The fingerprint of the sequence that each position's sample belongs to."""
        ...
