"""Formats made for streaming, read from local files: webdataset, litdata, MosaicML Streaming."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.peers.contract import Job, Peer, tensor
from benchmarks.peers.placeholders import placeholders

FILES = 4


def write_webdataset(job: Job) -> None:
    import webdataset

    size = max(1, len(job.samples) // FILES)
    with webdataset.ShardWriter(str(job.folder / "%05d.tar"), maxcount=size, verbose=0) as writer:
        for k, sample in enumerate(job.samples):
            writer.write({"__key__": f"{k:08d}", "image": sample.numpy().tobytes()})


def read_webdataset(job: Job) -> Iterable[Any]:
    import webdataset

    files = sorted(str(path) for path in job.folder.glob("*.tar"))
    rows = webdataset.WebDataset(files, shardshuffle=len(files), empty_check=False).shuffle(256)
    batches = rows.map(lambda row: tensor(bytearray(row["image"]), job)).batched(job.batch, collation_fn=torch.stack)
    return DataLoader(batches, batch_size=None, num_workers=job.workers, persistent_workers=job.workers > 0)


def write_litdata(job: Job, compression: str | None) -> None:
    from litdata.streaming.writer import BinaryWriter

    size = max(1 << 20, job.samples.nbytes // FILES)
    writer = BinaryWriter(str(job.folder), chunk_bytes=size, compression=compression)
    for k, sample in enumerate(job.samples):
        writer[k] = {"image": sample}
    writer.done()
    writer.merge()


def read_litdata(job: Job) -> Iterable[Any]:
    import litdata

    return litdata.StreamingDataLoader(
        litdata.StreamingDataset(str(job.folder), shuffle=True, drop_last=False), batch_size=job.batch,
        num_workers=job.workers, persistent_workers=job.workers > 0, collate_fn=_stacked,
    )  # fmt: skip


def _stacked(rows: list[Any]) -> Any:
    return torch.stack([row["image"] for row in rows])


def write_streaming(job: Job, compression: str | None) -> None:
    with placeholders("torchvision", "transformers"):
        from streaming import MDSWriter
    column = f"ndarray:{job.dtype}:{','.join(map(str, job.shape))}"
    with MDSWriter(out=str(job.folder), columns={"image": column}, compression=compression) as writer:
        for sample in job.samples:
            writer.write({"image": sample.numpy()})


def read_streaming(job: Job) -> Iterable[Any]:
    with placeholders("torchvision", "transformers"):
        from streaming import StreamingDataset
        from streaming.base.util import clean_stale_shared_memory
    clean_stale_shared_memory()  # it remembers folders that it has seen
    rows = StreamingDataset(local=str(job.folder), shuffle=True, batch_size=job.batch, keep_zip=True)
    return DataLoader(
        rows, job.batch, num_workers=job.workers, persistent_workers=job.workers > 0, collate_fn=_stacked_arrays
    )


def _stacked_arrays(rows: list[Any]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(row["image"].copy()) for row in rows])


PEERS = (
    Peer("webdataset", write_webdataset, read_webdataset, ("webdataset",)),
    Peer("litdata", lambda job: write_litdata(job, None), read_litdata, ("litdata",)),
    Peer("litdata, zstd", lambda job: write_litdata(job, "zstd"), read_litdata, ("litdata",), "compressed"),
    Peer("MosaicML Streaming", lambda job: write_streaming(job, None), read_streaming, ("mosaicml-streaming",)),
    Peer("MosaicML Streaming, zstd", lambda job: write_streaming(job, "zstd"), read_streaming,
         ("mosaicml-streaming",), "compressed"),
)  # fmt: skip
