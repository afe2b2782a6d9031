"""Writes one shard: an immutable HDF5 file that appears whole, under the name of its content, or not at all.

HDF5 only lays the file out. Uncompressed samples are then written at the data sets' offsets with plain system calls,
and what HDF5 itself writes goes through `ErrorKeepingFile`: a full disk shows at once as an error (HDF5 accepts
megabytes first, leaves out what did not fit, and may take the interpreter down when it closes the file). Before the
shard gets its name it is read back and compared sample by sample with what it was given.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ShardCorruptError
from torchgenaug.shards.folder import file_digest
from torchgenaug.shards.format import Manifest, shard_name
from torchgenaug.shards.read.content import ShardFault
from torchgenaug.shards.read.opened import OpenShard
from torchgenaug.shards.read.whole_shard import wrong_content
from torchgenaug.shards.structure import ALIGNMENT, CALL_SIZE_ATTRIBUTE, checksums, create_data_sets, number_bytes
from torchgenaug.shards.temporary import TemporaryFile
from torchgenaug.shards.write.blank import blank_shard
from torchgenaug.shards.write.kept_errors import ErrorKeepingFile


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
        self._sums = np.zeros((len(self.ids), len(manifest.fields)), np.uint64)
        self._call_size: int | None = None
        self._temporary = TemporaryFile(folder)
        self._kept = ErrorKeepingFile(self._temporary)
        self._file: Any = None
        self._offsets: dict[str, int] = {}
        try:
            self._lay_out()
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
        self._sums[start : start + len(ids)] = np.array(sums, np.uint64).T
        self._put("checksum", start, self._sums[start : start + len(ids)])
        self._rows_missing -= len(ids)

    def commit(self) -> tuple[str, int]:
        """Makes the shard durable, reads it back, and makes it visible.

        Returns:
            Its file name, and its size in bytes.

        Raises:
            OSError: the disk is full, or does not work.
            ShardCorruptError: what is read back is not what was written.
        """
        if self._rows_missing:
            raise ValueError(f"shard {self.index} lacks {self._rows_missing} of {len(self.ids)} samples")
        try:
            with self._hdf5():
                self._note_call_size()
                self._close()
            self._temporary.sync()
            self._read_back()
            descriptor = self._temporary.descriptor
            os.lseek(descriptor, 0, os.SEEK_SET)
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
        with contextlib.suppress(OSError, RuntimeError):
            self._close()
        self._temporary.discard()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    @contextlib.contextmanager
    def _hdf5(self) -> Iterator[None]:
        """Raises what the system reported while HDF5 wrote, whatever HDF5 made of it."""
        try:
            yield
        except Exception:
            self._kept.check()
            raise
        self._kept.check()

    def _read_back(self) -> None:
        """ShardCorruptError unless the file holds, sample by sample, what `write` was given.

        Read with system calls, not from a map: reading a map of a file with holes on a full disk kills the process.
        """
        path, fault = self._temporary.path, None
        try:
            shard = OpenShard(
                path,
                self.manifest,
                self.index,
                known=None,
                digest=False,
                mapped=False,
                descriptor=self._temporary.descriptor,
            )
            try:
                fault = wrong_content(shard, self.manifest, self.index)
                if not np.array_equal(np.asarray(shard.sums), self._sums.reshape(-1)):
                    fault = "its checksums are not those of the samples that were written"
            finally:
                shard.close()
        except (ShardFault, ShardCorruptError) as error:
            fault = str(error)
        if fault is not None:
            raise ShardCorruptError(
                f"Shard {self.index} in {str(path.parent)!r} must be read back as it was written, but {fault}. It was "
                "not committed. Check the disk and its free space, then run the same render again."
            )

    def _note_call_size(self) -> None:
        if self._call_size is None:
            return
        if self._file is None:
            import h5py

            self._file = h5py.File(self._kept, "r+", driver="fileobj", libver="latest")
        self._file.attrs.create(CALL_SIZE_ATTRIBUTE, np.int64(self._call_size))

    def _lay_out(self) -> None:
        """Takes the room of an uncompressed shard; for a compressed one, lets HDF5 begin the file."""
        count = len(self.ids)
        if self.manifest.compression is None:
            blank = blank_shard(self.manifest, count, self._temporary.path.parent)
            self._offsets = blank.offsets
            self._temporary.resize(blank.size)
            self._temporary.reserve(blank.size)
            for position, content in blank.pieces:
                self._temporary.write(content, position)
            return
        import h5py

        options = {"libver": "latest", "alignment_threshold": 1, "alignment_interval": ALIGNMENT}
        with self._hdf5():
            self._file = h5py.File(self._kept, "w", driver="fileobj", **options)
            create_data_sets(self._file, self.manifest, count)

    def _put(self, name: str, start: int, rows: npt.NDArray[Any]) -> None:
        if self._file is not None:
            with self._hdf5():
                self._file[name][start : start + len(rows)] = rows
            return
        content = number_bytes(rows)
        self._temporary.write(content, self._offsets[name] + start * (len(content) // len(rows)))
