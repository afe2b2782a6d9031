"""`ShardSource`: as it is and compressed, with and without checksums; and what a decoder alone reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.contract import Job, Peer, by_batch, nothing
from torchgenaug import FieldSpec, FunctionSynthesizer, ShardSource, SyntheticPool, SyntheticSequence, render_shards
from torchgenaug.contracts import SyntheticSource


class Batches(Dataset[Tensor]):
    """Whole batches of a source, for a loader."""

    def __init__(self, source: SyntheticSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        return self.source.read(np.asarray(indices))["image"]


def sequence_of(job: Job) -> SyntheticSequence:
    """The samples of a job, as a sequence."""
    fields = {"image": FieldSpec(job.shape, job.samples.dtype)}
    rows: dict[int, int] = {}
    synthesizer = FunctionSynthesizer(
        lambda seeds, _: {"image": job.samples[[rows[seed] for seed in seeds]]}, fields, fingerprint="the samples"
    )
    sequence = SyntheticSequence(synthesizer)
    rows.update({seed: row for row, seed in enumerate(sequence.seeds(range(len(job.samples))).tolist())})
    return sequence


def write(job: Job, compression: str | None) -> None:
    size = max(1, len(job.samples) // 4)
    render_shards(
        sequence_of(job), job.folder, len(job.samples), batch_size=min(32, size), shard_size=size,
        compression=compression, progress=False, ranks=(0, 1),
    )  # fmt: skip


def pool(job: Job) -> Iterable[Any]:
    size = len(job.samples)
    full = SyntheticPool(sequence_of(job), size, refresh=0, batch_size=min(32, size), background=False)
    full.set_epoch(0)  # workers do not fill it
    return by_batch(Batches(full), job)


def read(job: Job, verify: Any) -> Iterable[Any]:
    return by_batch(Batches(ShardSource(job.folder, verify=verify)), job)


def read_by_item(job: Job) -> Iterable[Any]:
    """What most people write: torch's loader with its own collating."""
    loader = DataLoader(
        ShardSource(job.folder), job.batch, shuffle=True, num_workers=job.workers, persistent_workers=job.workers > 0
    )
    return Images(loader)


class Hashed:
    """Batches of a loader, and a checksum of each sample that is compared with nothing."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.loader:
            for row in batch.numpy():
                xxhash.xxh3_64_intdigest(row)
            yield batch


class Images:
    """The images of a loader's batches."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Tensor]:
        return (batch["image"] for batch in self.loader)


class Decoder:
    """Only decodes, in a random order, always into the same memory: no loader can be faster on one thread."""

    def __init__(self, job: Job) -> None:
        source = ShardSource(job.folder, verify="off")
        self.size, self.batch = source.manifest.shard_size, job.batch
        self.shards = source._shards().get(range(source.manifest.num_shards))
        self.out = torch.empty((job.batch, *job.shape), dtype=job.samples.dtype)
        self.count = len(source)

    def __iter__(self) -> Iterator[Tensor]:
        order, address, size = torch.randperm(self.count).tolist(), self.out.data_ptr(), self.out[0].nbytes
        for start in range(0, self.count, self.batch):
            some = order[start : start + self.batch]
            for k, number in enumerate(some):
                rows: Any = self.shards[number // self.size].compressed[0]
                rows.decode(number % self.size, address + k * size, size)
            yield self.out[: len(some)]


def _peer(name: str, compression: str | None, verify: str) -> Peer:
    kind, packages = ("ours, compressed", ("hdf5plugin",)) if compression else ("ours", ())
    return Peer(name, lambda job: write(job, compression), lambda job: read(job, verify), packages, kind)


PEERS = (
    Peer("SyntheticPool", nothing, pool, kind="ours, in memory"),
    _peer("ShardSource", None, "sample"),
    Peer("ShardSource, torch's own collating", lambda job: write(job, None), read_by_item, kind="ours"),
    _peer("ShardSource, verified in each read", None, "read"),
    _peer("ShardSource, not verified", None, "off"),
    Peer(
        "not verified, and xxh3 of each sample",
        lambda job: write(job, None),
        lambda job: Hashed(read(job, "off")),
        kind="limit",
    ),
    _peer("ShardSource, lz4", "lz4", "sample"),
    _peer("ShardSource, lz4, not verified", "lz4", "off"),
    _peer("ShardSource, zstd", "zstd", "sample"),
    _peer("ShardSource, zstd, not verified", "zstd", "off"),
    Peer("lz4, decoder alone", lambda job: write(job, "lz4"), Decoder, ("hdf5plugin",), "limit"),
    Peer("zstd, decoder alone", lambda job: write(job, "zstd"), Decoder, ("hdf5plugin",), "limit"),
)
