"""What torch itself offers for samples in memory, and numpy for a file that is mapped into it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from benchmarks.peers.contract import Job, Lazy, Peer, by_batch, by_item, nothing

BASELINE = "TensorDataset"


def concatenated(job: Job) -> Iterable[Any]:
    half = len(job.samples) // 2
    both = ConcatDataset([TensorDataset(job.samples[:half]), TensorDataset(job.samples[half:])])
    sampler = WeightedRandomSampler([1.0] * len(both), len(both))
    return DataLoader(both, job.batch, sampler=sampler, num_workers=job.workers, persistent_workers=job.workers > 0)


class Nodes:
    """A pass through a pipeline of torchdata. Workers are its threads: its processes would start anew in each pass."""

    def __init__(self, job: Job) -> None:
        self.job, self.dataset = job, TensorDataset(job.samples)

    def batch(self, rows: list[int]) -> Any:
        return default_collate([self.dataset[row] for row in rows])

    def __iter__(self) -> Any:
        from torchdata.nodes import Batcher, Loader, ParallelMapper, SamplerWrapper

        indices = Batcher(SamplerWrapper(RandomSampler(self.dataset)), self.job.batch, drop_last=False)
        yield from Loader(ParallelMapper(indices, self.batch, num_workers=self.job.workers, method="thread"))


def save(job: Job) -> None:
    np.save(job.folder / "samples.npy", job.samples.numpy())


def mapped(job: Job) -> Lazy:
    # Copy-on-write: torch wants memory that may be written.
    return Lazy(
        len(job.samples),
        lambda: np.load(job.folder / "samples.npy", mmap_mode="c"),
        lambda rows, index: torch.from_numpy(rows[index]),
    )


def save_each(job: Job) -> None:
    for k, sample in enumerate(job.samples):
        np.save(job.folder / f"{k}.npy", sample.numpy())


def each(job: Job) -> Iterable[Any]:
    files = Lazy(len(job.samples), lambda: job.folder, lambda folder, k: torch.from_numpy(np.load(folder / f"{k}.npy")))
    return by_item(files, job)


class Whole(TensorDataset):
    """A whole batch by one index operation."""

    def __getitem__(self, index: Any) -> Any:
        return self.tensors[0].index_select(0, torch.tensor(index))


PEERS = (
    Peer(BASELINE, nothing, lambda job: by_item(TensorDataset(job.samples), job), kind="memory"),
    Peer("tensor in memory, whole batch", nothing, lambda job: by_batch(Whole(job.samples), job), kind="memory"),
    Peer("ConcatDataset + WeightedRandomSampler", nothing, concatenated, kind="memory", once=False),
    Peer("torchdata.nodes, in memory", nothing, Nodes, ("torchdata",), kind="memory"),
    Peer("np.memmap", save, lambda job: by_item(mapped(job), job)),
    Peer("np.memmap, whole batch", save, lambda job: by_batch(mapped(job), job)),
    Peer(".npy per sample", save_each, each),
)
