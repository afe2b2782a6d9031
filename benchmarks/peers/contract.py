"""What a peer must do: write the samples in its own format, and read them back in a random order, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler


@dataclass(frozen=True)
class Job:
    """One set of samples, and how it is to be read.

    Attributes:
        samples: (n, channels, *spatial): what to write, and what must come back, each once in every pass.
        folder: of this peer alone.
        batch: samples per batch.
        workers: worker processes of the loader; 0 reads in the training process.
    """

    samples: Tensor
    folder: Path
    batch: int
    workers: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.samples.shape[1:])

    @property
    def dtype(self) -> str:
        """Of the samples, by its name in numpy."""
        return str(self.samples.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Peer:
    """One way to store and read samples.

    Attributes:
        name: as the tables show it.
        write: puts the samples of a job into its folder; nothing to do for what is read from memory.
        open: a loader, to be iterated once per pass, of batches (or of lists whose first item is the batch).
        packages: the distributions whose versions are stated.
        kind: what it is compared as: "ours", "memory", "plain" (as it is) or "compressed".
        once: whether a pass must hold each sample exactly once.
    """

    name: str
    write: Callable[[Job], None]
    open: Callable[[Job], Iterable[Any]]
    packages: tuple[str, ...] = ()
    kind: str = "plain"
    once: bool = True


class Lazy(Dataset[Any]):
    """A map-style data set whose file each process opens for itself, when it reads the first sample."""

    def __init__(self, size: int, connect: Callable[[], Any], read: Callable[[Any, Any], Any]) -> None:
        self.size, self.connect, self.read, self.handle = size, connect, read, None

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if self.handle is None:
            self.handle = self.connect()
        return self.read(self.handle, index)


def by_item(dataset: Any, job: Job) -> DataLoader[Any]:
    """Reads a data set as most people do: sample by sample, stacked by the loader."""
    return DataLoader(dataset, job.batch, shuffle=True, num_workers=job.workers, persistent_workers=job.workers > 0)


def by_batch(dataset: Any, job: Job) -> DataLoader[Any]:
    """Reads a data set whose ``[list of indices]`` is a whole batch."""
    sampler = BatchSampler(RandomSampler(dataset), job.batch, drop_last=False)
    return DataLoader(
        dataset, sampler=sampler, batch_size=None, num_workers=job.workers, persistent_workers=job.workers > 0
    )


def nothing(job: Job) -> None:
    """For what is read from memory."""


def tensor(buffer: Any, job: Job) -> Tensor:
    """A sample from its bytes."""
    return torch.frombuffer(buffer, dtype=job.samples.dtype).reshape(job.shape)
