"""What the writer and the reader of a shard have to agree on, beyond the manifest: names, filters, checksums."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from torchgenaug.errors import missing_extra
from torchgenaug.shards.format import Manifest

ALIGNMENT = 64  # bytes; a cache line, and every vector register's width
RENDER_ATTRIBUTE, CALL_SIZE_ATTRIBUTE = "render", "call_size"


def is_chunked(manifest: Manifest, field: str) -> bool:
    """Whether a field is stored compressed, one sample per chunk. Scalars never are: a chunk costs more."""
    return manifest.compression is not None and manifest.fields[field].spec.kind != "scalar"


def filters(compression: str | None) -> dict[str, Any]:
    """The arguments of h5py's ``create_dataset`` for a compression.

    Raises:
        MissingExtraError: lz4 or zstd without the package `hdf5plugin`.
    """
    if compression is None:
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    try:
        import hdf5plugin
    except ImportError as error:
        raise missing_extra(f"compression={compression!r}", package="hdf5plugin", extra="compression") from error
    return dict(hdf5plugin.Blosc(cname=compression, clevel=5 if compression == "lz4" else 3, shuffle=1))


def checksums(rows: npt.NDArray[Any], ids: list[int]) -> list[int]:
    """xxh3 (64 bit) of each row's bytes, seeded with its sample id: zeroed and swapped rows do not pass.

    Args:
        rows: (n, anything), C-contiguous.
        ids: n sample ids, the seeds.
    """
    # A row that is a 0-d scalar is not a buffer; two axes make each row an array.
    matrix: Any = rows.reshape(len(ids), -1)
    return list(map(xxhash.xxh3_64_intdigest, matrix, ids))


def number_bytes(values: npt.NDArray[Any]) -> memoryview:
    """The bytes of an array, in C order."""
    return memoryview(np.ascontiguousarray(values).data).cast("B")


def create_data_sets(file: Any, manifest: Manifest, count: int) -> None:
    """Creates everything in a new shard but its values.

    Args:
        file: an open, empty h5py file.
        manifest: of the render.
        count: how many samples the shard holds.
    """
    file.attrs.create(RENDER_ATTRIBUTE, np.bytes_(manifest.render_id))
    for name, field in manifest.fields.items():
        chunked = filters(manifest.compression) if is_chunked(manifest, name) else None
        _create(file, name, (count, *field.spec.shape), field.dtype, chunked)
    _create(file, "id", (count,), "int64")
    _create(file, "seed", (count,), "uint64")
    _create(file, "checksum", (count, len(manifest.fields)), "uint64")


def _create(file: Any, name: str, shape: tuple[int, ...], dtype: str, chunked: dict[str, Any] | None = None) -> None:
    import h5py

    little = np.dtype(dtype).newbyteorder("<")
    if chunked is not None:
        # A chunk that was never written must not read as zeros.
        fill = np.nan if little.kind == "f" else None
        file.create_dataset(name, shape, little, chunks=(1, *shape[1:]), fillvalue=fill, track_times=False, **chunked)
        return
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(little), space, properties)
