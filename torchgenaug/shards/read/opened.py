"""Open shards: the map of one file, and a bounded set of such maps."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from torchgenaug import seeding
from torchgenaug.errors import ShardIncompleteError
from torchgenaug.shards.format import Manifest, shard_name
from torchgenaug.shards.read.blosc import MappedBloscRows, find_decoder
from torchgenaug.shards.read.chunks import BloscRows, Extents, GzipRows, check_blosc
from torchgenaug.shards.read.frame import Frame
from torchgenaug.shards.read.layout import ShardFault, corrupt, open_checked

MAX_MAPS = 16_384
"""Maps hold no file handle, so this bounds only address space and some 3 KiB of memory each."""
MAX_FILES = 128
"""Where shards compressed with Blosc are read through HDF5, each keeps a handle."""


class OpenShard:
    """One shard, checked and mapped.

    Args:
        path: of the file.
        manifest: of its folder.
        index: which shard it must be.
        known: its `offsets`, if it was checked before.
        digest: compare the file's sha256 with its name first.
        frames: length of a shard → the frame of one that was checked; used and filled. None to go through HDF5 always.

    Attributes:
        path: of the file.
        ids: the ids that it holds.
        maps: per field, in the manifest's order: the bytes of all its samples on the map; empty for a compressed field.
        compressed: per field: how to read it if it is compressed, else None.
        sums: (n * num_fields,) the checksums, sample by sample; its items are Python integers.
        offsets: where in the file each contiguous data set begins.

    Raises:
        ShardFault: the file is anything else than this shard.
    """

    __slots__ = ("_file", "compressed", "ids", "maps", "offsets", "path", "sums")

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        index: int,
        *,
        known: dict[str, int] | None,
        digest: bool,
        frames: dict[int, Frame] | None = None,
    ) -> None:
        self.path, self.ids = path, manifest.shard_range(index)
        self._file: Any = None
        chunks: dict[str, Extents] = {}
        new, mapped, frame = known is None, None, (frames or {}).get(len(self.ids))
        if new and frame is not None and not digest and frame.may_be(path):
            mapped = _map_file(path, self.ids)
            known = frame.offsets if frame.fits(mapped) else None
        if known is None or manifest.compression is not None:
            self._file, known, chunks = open_checked(path, manifest, digest=digest)
            mapped = None  # what was checked is what is mapped
        self.offsets = known
        try:
            if mapped is None:
                mapped = _map_file(path, self.ids)
            self._map(mapped, manifest, chunks)
            if new:
                self._check_numbers(mapped, manifest)
            if frames is not None and frame is None and manifest.compression is None:
                frames.update(self._frame(mapped, manifest))
        except BaseException as error:
            self.close()
            if isinstance(error, ValueError) and not isinstance(error, ShardFault):
                raise ShardFault(str(error)) from error  # also where it has shrunk since it was checked
            raise
        if not any(isinstance(rows, BloscRows) for rows in self.compressed):
            self.close()

    def close(self) -> None:
        """Closes the HDF5 file, if one is open. The map goes with the last reference to it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def wrong_rows(self, column: int) -> list[int]:
        """The rows of an uncompressed field whose checksum is wrong. Nothing is copied."""
        digest, content, sums = xxhash.xxh3_64_intdigest, self.maps[column], self.sums[column :: len(self.maps)]
        size = len(content) // len(self.ids)
        return [
            row
            for row, salt in enumerate(self.ids)
            if digest(content[row * size : (row + 1) * size], salt) != sums[row]
        ]

    def _map(self, mapped: npt.NDArray[np.uint8], manifest: Manifest, chunks: dict[str, Extents]) -> None:
        count = len(self.ids)
        self.maps = [
            self._part(mapped, name, count * field.row_bytes).data if name in self.offsets else memoryview(b"")
            for name, field in manifest.fields.items()
        ]
        self.compressed: list[BloscRows | MappedBloscRows | GzipRows | None] = []
        for name, field in manifest.fields.items():
            if name in self.offsets:
                self.compressed.append(None)
            elif manifest.compression == "gzip":
                self.compressed.append(GzipRows(mapped, chunks[name]))
            else:
                check_blosc(mapped, chunks[name], field.row_bytes)
                decoder = find_decoder()
                self.compressed.append(
                    BloscRows(self._file[name].id)
                    if decoder is None
                    else MappedBloscRows(mapped, chunks[name], decoder)
                )
        self.sums = self._part(mapped, "checksum", count * len(manifest.fields), "uint64").data

    def _check_numbers(self, mapped: npt.NDArray[np.uint8], manifest: Manifest) -> None:
        count, ids = len(self.ids), np.arange(self.ids.start, self.ids.stop)
        if not np.array_equal(self._part(mapped, "id", count, "int64"), ids):
            raise ShardFault("it says that it holds other ids")
        seeds = seeding.derive(manifest.seed, seeding.SAMPLE, ids)
        if not np.array_equal(self._part(mapped, "seed", count, "uint64"), seeds):
            raise ShardFault("its seeds do not follow from the base seed of the manifest")

    def _part(self, mapped: npt.NDArray[np.uint8], name: str, size: int, dtype: str = "uint8") -> npt.NDArray[Any]:
        """`size` numbers of a contiguous data set."""
        return np.frombuffer(mapped, dtype, size, self.offsets[name])

    def _frame(self, mapped: npt.NDArray[np.uint8], manifest: Manifest) -> dict[int, Frame]:
        count = len(self.ids)
        lengths = {name: count * field.row_bytes for name, field in manifest.fields.items()}
        lengths |= {"id": 8 * count, "seed": 8 * count, "checksum": 8 * count * len(manifest.fields)}
        frame = Frame.of(mapped, self.offsets, lengths)
        return {} if frame is None else {count: frame}


def copy_rows(
    out: npt.NDArray[Any],
    shards: Mapping[int, OpenShard],
    indices: Sequence[int],
    rows: Sequence[int],
    column: int,
    ids: Sequence[int] | None,
) -> list[int]:
    """Copies sample ``rows[k]`` of ``shards[indices[k]]`` into ``out[k]``, and checks it while it is in the cache.

    Args:
        out: (n, *shape) of the stored dtype, C-contiguous, n > 0.
        shards: shard index → open shard.
        indices: n shard indices.
        rows: n positions in those shards.
        column: which field.
        ids: n sample ids, the salts of the checksums; None to check nothing.

    Returns:
        The k whose checksum is wrong.

    Raises:
        ShardCorruptError: a compressed sample that cannot be decoded.
    """
    digest, columns = xxhash.xxh3_64_intdigest, len(shards[indices[0]].maps)
    content = out.reshape(-1).data.cast("B")
    size = len(content) // len(rows)
    sums = {index: shard.sums for index, shard in shards.items()}
    wrong = []
    if shards[indices[0]].compressed[column] is not None:
        _decode_rows(out, shards, indices, rows, column)
        for k, salt in enumerate(ids or ()):
            if digest(content[k * size : (k + 1) * size], salt) != sums[indices[k]][rows[k] * columns + column]:
                wrong.append(k)
        return wrong
    # The hot loop of every read. Slices of memoryviews cost less than any per-row operation of numpy or torch, and a
    # row that has just been copied is hashed at the speed of the cache.
    maps = {index: shard.maps[column] for index, shard in shards.items()}
    end = 0
    if ids is None:
        for index, row in zip(indices, rows, strict=True):
            start, first = end, row * size
            end = start + size
            content[start:end] = maps[index][first : first + size]
        return wrong
    for index, row, salt in zip(indices, rows, ids, strict=True):
        start, first = end, row * size
        end = start + size
        content[start:end] = source = maps[index][first : first + size]
        if digest(source, salt) != sums[index][row * columns + column]:
            wrong.append(start // size)
    return wrong


def _decode_rows(
    out: npt.NDArray[Any], shards: Mapping[int, OpenShard], indices: Sequence[int], rows: Sequence[int], column: int
) -> None:
    address, size = out.ctypes.data, out[0].nbytes
    for k, (index, row) in enumerate(zip(indices, rows, strict=True)):
        shard = shards[index]
        source = shard.compressed[column]
        try:
            if isinstance(source, MappedBloscRows):
                source.decode(row, address + k * size, size)
            elif source is not None:
                source.read(row, out[k])
        except (OSError, RuntimeError, ValueError) as error:
            here = range(shard.ids[row], shard.ids[row] + 1)
            raise corrupt(shard.path, here, f"it cannot be decoded ({error})") from error


class OpenShards:
    """The shards of a folder, opened when first read; the least recently used are let go when there are too many.

    Belongs to one process. Safe in threads.

    Args:
        folder: the shard folder.
        manifest: its manifest.
        digests: (num_shards, 32) uint8, the sha256 of each shard.
        hashed: compare the sha256 when a shard is first opened.
    """

    def __init__(self, folder: Path, manifest: Manifest, digests: npt.NDArray[np.uint8], *, hashed: bool) -> None:
        self.pid = os.getpid()
        self._folder, self._manifest, self._digests, self._hashed = folder, manifest, digests, hashed
        by_maps = manifest.compression in (None, "gzip") or find_decoder() is not None
        self._limit = MAX_MAPS if by_maps else MAX_FILES
        self._lock = threading.RLock()  # a signal handler may read, too
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._offsets: dict[int, dict[str, int]] = {}
        self._frames: dict[int, Frame] = {}

    def get(self, indices: Iterable[int]) -> dict[int, OpenShard]:
        """Shard index → open shard, for each of `indices`."""
        found = {}
        with self._lock:
            for index in indices:
                shard = self._open.get(index)
                if shard is None:
                    self._open[index] = shard = self._opened(index)
                else:
                    self._open.move_to_end(index)
                found[index] = shard
            # Evicted shards are not closed: the caller, or another thread, may still read them.
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
        return found

    def _opened(self, index: int) -> OpenShard:
        path = self._folder / shard_name(index, self._digests[index].tobytes().hex())
        known = self._offsets.get(index)
        hashed = self._hashed and known is None
        try:
            try:
                shard = OpenShard(path, self._manifest, index, known=known, digest=hashed, frames=self._frames)
            except RuntimeError as error:
                # The system allows a process so many maps (65,530 is usual), and other sources have some, too.
                if "allocate memory" not in str(error) or not self._open:
                    raise
                for _ in range(len(self._open) // 2 + 1):
                    self._open.popitem(last=False)
                shard = OpenShard(path, self._manifest, index, known=known, digest=hashed, frames=self._frames)
        except ValueError as error:  # a ShardFault, or a map that has become too small
            raise corrupt(path, self._manifest.shard_range(index), str(error)) from error
        # Shards of one size share their layout; one dict serves them all.
        previous = next(reversed(self._offsets.values()), shard.offsets)
        self._offsets[index] = previous if previous == shard.offsets else shard.offsets
        return shard


def _map_file(path: Path, ids: range) -> npt.NDArray[np.uint8]:
    """The whole file as a read-only array. Unlike `mmap`, torch's map keeps no file handle."""
    try:
        storage: Any = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
    except FileNotFoundError as error:
        raise ShardIncompleteError(
            f"{path} is gone; it held samples {ids.start} to {ids.stop - 1}. Make it again by running the same render "
            "once more."
        ) from error
    mapped: npt.NDArray[np.uint8] = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    mapped.flags.writeable = False
    return mapped
