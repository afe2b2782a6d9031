"""Writes one shard: an immutable HDF5 file that appears whole, under the name of its content, or not at all.

HDF5 only lays the file out. Uncompressed samples are then written at the data sets' offsets with plain system calls: a
full disk shows at once as an error (HDF5 accepts megabytes first and may take the interpreter down when it closes the
file), and other threads run meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from torchgenaug.errors import missing_extra
from torchgenaug.shards.folder import TemporaryFile, file_digest
from torchgenaug.shards.format import Manifest, shard_name

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


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """Gives errors of HDF5 the number of the system's error, which they only mention in their text."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = ([0-9]+)", str(error))
        if number is None or getattr(error, "errno", None) is not None:
            raise
        raise OSError(int(number[1]), str(error)) from error


class ShardWriter:
    """One shard in the making. Rows may come in any order and any portions; `commit` wants all of them.

    Args:
        folder: where the shard will lie.
        manifest: of the render.
        index: which shard.

    Raises:
        OSError: the disk is full or not writable; nothing remains in the folder then.
    """

    def __init__(self, folder: Path, manifest: Manifest, index: int) -> None:
        self.manifest, self.index, self.ids = manifest, index, manifest.shard_range(index)
        self._rows_missing = len(self.ids)
        self._call_size: int | None = None
        self._temporary = TemporaryFile(folder)
        self._file: Any = None
        try:
            with _system_errors():
                self._offsets = self._lay_out()
        except BaseException:
            self.abort()
            raise

    def write(
        self,
        first_id: int,
        rows: Mapping[str, npt.NDArray[Any]],
        seeds: npt.NDArray[np.uint64],
        call_size: int | None = None,
    ) -> None:
        """Writes consecutive samples.

        Args:
            first_id: id of the first.
            rows: field → stored values (n, *shape), from `StoredField.encode`.
            seeds: (n,) the samples' seeds.
            call_size: how many samples the model was given at once, if fewer than planned. The shard will say so.
        """
        if call_size is not None:
            self._call_size = min(call_size, self._call_size or call_size)
        start = first_id - self.ids.start
        ids = list(range(first_id, first_id + len(seeds)))
        sums = [checksums(rows[name], ids) for name in self.manifest.fields]
        for name in self.manifest.fields:
            self._put(name, start, rows[name])
        self._put("id", start, np.array(ids, np.int64))
        self._put("seed", start, seeds)
        self._put("checksum", start, np.array(sums, np.uint64).T)
        self._rows_missing -= len(ids)

    def commit(self) -> tuple[str, int]:
        """Makes the shard durable and visible; returns its file name and size in bytes."""
        if self._rows_missing:
            raise ValueError(f"shard {self.index} lacks {self._rows_missing} of {len(self.ids)} samples")
        try:
            with _system_errors():
                self._note_call_size()
                if self._file is not None:
                    self._file.close()
                    self._file = None
            descriptor = self._temporary.descriptor
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                name = shard_name(self.index, file_digest(file))
            size = os.fstat(descriptor).st_size
            self._temporary.commit(name)
        except BaseException:
            self.abort()
            raise
        return name, size

    def abort(self) -> None:
        """Removes what was written."""
        file, self._file = self._file, None
        if file is not None:
            # On a full disk HDF5 cannot flush; the file goes away anyway.
            with contextlib.suppress(OSError, RuntimeError):
                file.close()
        self._temporary.discard()

    def _note_call_size(self) -> None:
        if self._call_size is None:
            return
        if self._file is None:
            import h5py

            self._file = h5py.File(self._temporary.path, "r+", libver="latest", locking=False)
        self._file.attrs.create(CALL_SIZE_ATTRIBUTE, np.int64(self._call_size))

    def _lay_out(self) -> dict[str, int]:
        """Creates the data sets; returns where in the file each contiguous one begins (nothing if HDF5 is to write)."""
        import h5py

        file = h5py.File(
            self._temporary.path,
            "w",
            libver="latest",
            locking=False,
            alignment_threshold=1,
            alignment_interval=ALIGNMENT,
        )
        try:
            file.attrs.create(RENDER_ATTRIBUTE, np.bytes_(self.manifest.render_id))
            count = len(self.ids)
            for name, field in self.manifest.fields.items():
                self._create(
                    file, name, (count, *field.spec.shape), field.dtype, chunked=is_chunked(self.manifest, name)
                )
            self._create(file, "id", (count,), "int64")
            self._create(file, "seed", (count,), "uint64")
            self._create(file, "checksum", (count, len(self.manifest.fields)), "uint64")
            if self.manifest.compression is not None:
                self._file = file
                return {}
            offsets = {name: dataset.id.get_offset() for name, dataset in file.items()}
        except BaseException:
            file.close()
            raise
        file.close()
        size = os.fstat(self._temporary.descriptor).st_size
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._temporary.descriptor, 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        return offsets

    def _create(self, file: Any, name: str, shape: tuple[int, ...], dtype: str, *, chunked: bool = False) -> None:
        import h5py

        little = np.dtype(dtype).newbyteorder("<")
        if chunked:
            # A chunk that was never written must not read as zeros.
            fill = np.nan if little.kind == "f" else None
            options = filters(self.manifest.compression)
            file.create_dataset(
                name, shape, little, chunks=(1, *shape[1:]), fillvalue=fill, track_times=False, **options
            )
            return
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.CONTIGUOUS)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        properties.set_obj_track_times(False)
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(little), space, properties)

    def _put(self, name: str, start: int, rows: npt.NDArray[Any]) -> None:
        if self._file is not None:
            with _system_errors():
                self._file[name][start : start + len(rows)] = rows
            return
        content = memoryview(np.ascontiguousarray(rows).data).cast("B")
        self._temporary.write(content, self._offsets[name] + start * (len(content) // len(rows)))
