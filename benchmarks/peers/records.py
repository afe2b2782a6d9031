"""Files of records: LMDB, ArrayRecord (alone and under Grain), Arrow under HF datasets, FFCV."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.peers.contract import Job, Lazy, Peer, by_batch, by_item, tensor
from benchmarks.peers.placeholders import placeholders


def write_lmdb(job: Job) -> None:
    import lmdb

    size = 2 * job.samples.nbytes + (64 << 20)
    with lmdb.open(str(job.folder), map_size=size) as database, database.begin(write=True) as transaction:
        for k, sample in enumerate(job.samples):
            transaction.put(k.to_bytes(8, "big"), sample.numpy().tobytes())


def read_lmdb(job: Job) -> Iterable[Any]:
    import lmdb

    def connect() -> Any:
        database = lmdb.open(str(job.folder), readonly=True, lock=False, readahead=False)
        return database.begin(buffers=True)

    database = Lazy(
        len(job.samples), connect, lambda handle, k: tensor(bytearray(handle.get(k.to_bytes(8, "big"))), job)
    )
    return by_item(database, job)


def write_array_record(job: Job) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(job.folder / "samples.array_record"), "group_size:1")
    for sample in job.samples:
        writer.write(sample.numpy().tobytes())
    writer.close()


def read_array_record(job: Job) -> Iterable[Any]:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    def batch(source: Any, indices: list[int]) -> torch.Tensor:
        return torch.stack([tensor(bytearray(record), job) for record in source.__getitems__(indices)])

    path = str(job.folder / "samples.array_record")
    return by_batch(Lazy(len(job.samples), lambda: ArrayRecordDataSource(path), batch), job)


class Grain:
    """A pass of Grain's own pipeline. Workers are its reading threads: its processes would start anew in each pass."""

    def __init__(self, job: Job) -> None:
        self.job, self.passes = job, 0

    def __iter__(self) -> Any:
        import grain

        job, self.passes = self.job, self.passes + 1
        source = grain.sources.ArrayRecordDataSource(str(job.folder / "samples.array_record"))
        rows = grain.MapDataset.source(source).shuffle(seed=self.passes)
        rows = rows.map(lambda record: np.frombuffer(record, job.dtype).reshape(job.shape))
        for batch in rows.to_iter_dataset(grain.ReadOptions(num_threads=job.workers)).batch(job.batch):
            yield torch.from_numpy(batch)


def write_arrow(job: Job) -> None:
    import datasets

    datasets.disable_progress_bars()
    array = {3: datasets.Array3D, 4: datasets.Array4D}[len(job.shape)]
    features = datasets.Features({"image": array(job.shape, job.dtype)})
    datasets.Dataset.from_dict({"image": job.samples.numpy()}, features).save_to_disk(job.folder / "arrow")


def read_arrow(job: Job) -> Iterable[Any]:
    import datasets

    rows = datasets.load_from_disk(job.folder / "arrow").with_format("torch", dtype=job.samples.dtype)
    # `__getitems__` of the library makes a whole batch of a table at once and takes it apart again: left as it is.
    return DataLoader(
        rows, job.batch, shuffle=True, num_workers=job.workers, persistent_workers=job.workers > 0,
        collate_fn=_images,
    )  # fmt: skip


def _images(rows: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.stack([row["image"] for row in rows])


class _Rows:
    def __init__(self, job: Job) -> None:
        self.rows = job.samples.numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any]:
        return (self.rows[index],)


def write_ffcv(job: Job) -> None:
    if job.samples.dtype == torch.float16:  # its thread would die, and its loader wait for ever
        raise TypeError("numba, which compiles FFCV's loader, has no float16")
    with placeholders("torchvision", "cv2"):
        from ffcv.fields import NDArrayField
        from ffcv.writer import DatasetWriter

        field = NDArrayField(np.dtype(job.dtype), job.shape)
        writer = DatasetWriter(str(job.folder / "samples.beton"), {"image": field}, num_workers=1)
        with contextlib.redirect_stderr(io.StringIO()):
            writer.from_indexed_dataset(_Rows(job))


def read_ffcv(job: Job) -> Iterable[Any]:
    with placeholders("torchvision", "cv2"):
        from ffcv.fields.decoders import NDArrayDecoder
        from ffcv.loader import Loader, OrderOption
        from ffcv.transforms import ToTensor

        # Its workers are threads, and it has no way to read without any: one stands for none.
        return Loader(
            str(job.folder / "samples.beton"), job.batch, max(1, job.workers), order=OrderOption.RANDOM,
            drop_last=False, pipelines={"image": [NDArrayDecoder(), ToTensor()]},
        )  # fmt: skip


PEERS = (
    Peer("LMDB", write_lmdb, read_lmdb, ("lmdb",)),
    Peer("ArrayRecord, whole batch", write_array_record, read_array_record, ("array_record",)),
    Peer("Grain over ArrayRecord", write_array_record, Grain, ("grain", "array_record")),
    Peer("HF datasets", write_arrow, read_arrow, ("datasets", "pyarrow")),
    Peer("FFCV", write_ffcv, read_ffcv, ("ffcv", "numba")),
)
