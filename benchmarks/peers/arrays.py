"""Array files: plain h5py, with and without filters, zarr, tensordict."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import torch

from benchmarks.peers.contract import Job, Lazy, Peer, by_batch, by_item


def write_h5(job: Job, options: Mapping[str, Any]) -> None:
    chunks = (1, *job.shape) if options else None
    with h5py.File(job.folder / "samples.h5", "w") as file:
        file.create_dataset("image", data=job.samples.numpy(), chunks=chunks, **options)


def read_h5(job: Job) -> Iterable[Any]:
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401 (tells HDF5 of its filters)
    # The file stays open: opening it for each sample, as some do, takes ten times as long.
    file = Lazy(
        len(job.samples),
        lambda: h5py.File(job.folder / "samples.h5")["image"],
        lambda dataset, index: torch.from_numpy(dataset[index]),
    )
    return by_item(file, job)


def blosc(codec: str) -> Mapping[str, Any]:
    import hdf5plugin

    return dict(hdf5plugin.Blosc(cname=codec, clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE))


def write_zarr(job: Job, compressors: Any) -> None:
    import zarr

    array = zarr.create_array(
        job.folder / "samples.zarr", shape=tuple(job.samples.shape), dtype=job.dtype, chunks=(1, *job.shape),
        compressors=compressors,
    )  # fmt: skip
    array[:] = job.samples.numpy()


def read_zarr(job: Job) -> Iterable[Any]:
    import zarr

    array = Lazy(
        len(job.samples),
        lambda: zarr.open_array(job.folder / "samples.zarr", mode="r"),
        lambda rows, index: torch.from_numpy(rows[index]),
    )
    return by_item(array, job)


def write_tensordict(job: Job) -> None:
    from tensordict import TensorDict

    TensorDict({"image": job.samples}, [len(job.samples)]).memmap(str(job.folder / "samples"))


def read_tensordict(job: Job) -> Iterable[Any]:
    from tensordict import TensorDict

    rows = Lazy(
        len(job.samples),
        lambda: TensorDict.load_memmap(str(job.folder / "samples")),
        lambda samples, indices: samples[indices]["image"],
    )
    return by_batch(rows, job)


_GZIP = {"compression": "gzip", "compression_opts": 4, "shuffle": True}

PEERS = (
    Peer("h5py", lambda job: write_h5(job, {}), read_h5, ("h5py",)),
    Peer("h5py, gzip-4", lambda job: write_h5(job, _GZIP), read_h5, ("h5py",), "compressed"),
    Peer("h5py, lz4", lambda job: write_h5(job, blosc("lz4")), read_h5, ("h5py", "hdf5plugin"), "compressed"),
    Peer("h5py, zstd", lambda job: write_h5(job, blosc("zstd")), read_h5, ("h5py", "hdf5plugin"), "compressed"),
    Peer("zarr", lambda job: write_zarr(job, None), read_zarr, ("zarr",)),
    Peer("zarr, zstd", lambda job: write_zarr(job, "auto"), read_zarr, ("zarr",), "compressed"),
    Peer("tensordict memmap, whole batch", write_tensordict, read_tensordict, ("tensordict",)),
)
