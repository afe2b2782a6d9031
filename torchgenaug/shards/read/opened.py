"""One open shard: the content of one file, checked once, and how its samples are copied out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from torchgenaug import seeding
from torchgenaug.shards.format import Manifest
from torchgenaug.shards.read.blosc import PlainBloscRows, find_decoder
from torchgenaug.shards.read.chunks import BloscRows, Extents, GzipRows, check_blosc
from torchgenaug.shards.read.content import Content, FileBytes, ShardFault, identity, map_file, open_file, read_file
from torchgenaug.shards.read.frame import Frame
from torchgenaug.shards.read.layout import check_digest, corrupt, open_checked
from torchgenaug.shards.storage import StoredField

_AT_ONCE = 1 << 16  # ids and seeds compared at once: a file may claim any number of them
_BYTES = 16 << 20  # decoded at once in a check of a whole shard, but one sample at least


class OpenShard:
    """One shard, opened once and checked.

    Args:
        path: of the file.
        manifest: of its folder.
        index: which shard it must be.
        known: its `offsets`, if this very file was checked before.
        digest: compare the file's sha256 with its name first.
        frames: length of a shard → the frame of one that was checked; used and filled. None to go through HDF5 always.
        mapped: map the file; False to read what is needed when it is needed.
        descriptor: the open file; None to open `path`.

    Attributes:
        path: of the file.
        ids: the ids that it holds.
        maps: per field, in the manifest's order: the bytes of all its samples; empty for a compressed field.
        compressed: per field: how to read it if it is compressed, else None.
        sums: (n * num_fields,) the checksums, sample by sample; its items are Python integers.
        offsets: where in the file each contiguous data set begins.
        identity: of the file, see `content.identity`.

    Raises:
        ShardFault: the file is anything else than this shard.
        ShardIncompleteError: there is no such file.
    """

    __slots__ = ("_file", "compressed", "identity", "ids", "maps", "offsets", "path", "sums")

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        index: int,
        *,
        known: Mapping[tuple[int, int, int, int], dict[str, int]] | None,
        digest: bool,
        frames: dict[int, Frame] | None = None,
        mapped: bool = True,
        descriptor: int | None = None,
    ) -> None:
        self.path, self.ids = path, manifest.shard_range(index)
        self._file: Any = None
        handle = open_file(path, self.ids) if descriptor is None else descriptor
        try:
            self.identity = identity(handle)
            # Before it is hashed: a file of a few bytes may claim a terabyte of nothing.
            if self.identity[2] > manifest.most_bytes():
                raise ShardFault(f"it has {self.identity[2]:,} bytes, more than any shard of this render")
            self._open(handle, manifest, index, (known or {}).get(self.identity), digest, frames, mapped)
        except BaseException as error:
            self.close()
            if isinstance(error, ValueError) and not isinstance(error, ShardFault):
                raise ShardFault(str(error)) from error
            raise
        finally:
            if descriptor is None:
                os.close(handle)
        if not any(isinstance(rows, BloscRows) for rows in self.compressed):
            self.close()

    def _open(
        self,
        descriptor: int,
        manifest: Manifest,
        index: int,
        known: dict[str, int] | None,
        digest: bool,
        frames: dict[int, Frame] | None,
        mapped: bool,
    ) -> None:
        new, frame = known is None, (frames or {}).get(len(self.ids))
        if new and digest:
            check_digest(self.path, descriptor)
        content: Content = map_file(descriptor) if mapped else read_file(descriptor)
        if new and frame is not None and not digest and frame.fits(content):
            known = frame.offsets
        chunks: dict[str, Extents] = {}
        if known is None or manifest.compression is not None:
            self._file, known, chunks = open_checked(content, manifest, index)
        self.offsets = known
        self._take(content, manifest, chunks)
        if new:
            self._check_numbers(content, manifest)
        self.sums = self._numbers(content, "checksum", 0, len(self.ids) * len(manifest.fields), "uint64").data
        if frames is not None and frame is None and manifest.compression is None:
            frames.update(self._frame(content, manifest))

    def close(self) -> None:
        """Closes the HDF5 file, if one is open. The content goes with the last reference to it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def first_wrong_row(self, column: int, field: StoredField, index: int) -> int | None:
        """The first row of a field whose checksum is wrong.

        Args:
            column: which field.
            field: the same.
            index: of this shard.

        Raises:
            ShardCorruptError: a compressed sample that cannot be decoded.
        """
        if self.compressed[column] is None:
            digest, content, sums = xxhash.xxh3_64_intdigest, self.maps[column], self.sums[column :: len(self.maps)]
            size = field.row_bytes
            for row, salt in enumerate(self.ids):
                if digest(content[row * size : (row + 1) * size], salt) != sums[row]:
                    return row
            return None
        portion = min(max(1, _BYTES // field.row_bytes), len(self.ids))
        stored = np.empty((portion, *field.spec.shape), field.dtype)
        for start in range(0, len(self.ids), portion):
            ids = self.ids[start : start + portion]
            rows = range(start, start + len(ids))
            wrong = copy_rows(stored[: len(ids)], {index: self}, [index] * len(ids), rows, column, ids)
            if wrong:
                return start + wrong[0]
        return None

    def _take(self, content: Content, manifest: Manifest, chunks: dict[str, Extents]) -> None:
        count = len(self.ids)
        self.maps: list[Content] = [
            self._part(content, name, count * field.row_bytes) if name in self.offsets else memoryview(b"")
            for name, field in manifest.fields.items()
        ]
        self.compressed: list[BloscRows | PlainBloscRows | GzipRows | None] = []
        for name, field in manifest.fields.items():
            if name in self.offsets:
                self.compressed.append(None)
            elif manifest.compression == "gzip":
                self.compressed.append(GzipRows(content, chunks[name]))
            else:
                check_blosc(content, chunks[name], field.row_bytes)
                decoder = find_decoder()
                self.compressed.append(
                    BloscRows(self._file[name].id)
                    if decoder is None
                    else PlainBloscRows(content, chunks[name], decoder)
                )

    def _check_numbers(self, content: Content, manifest: Manifest) -> None:
        for start in range(0, len(self.ids), _AT_ONCE):
            part = self.ids[start : start + _AT_ONCE]
            ids = np.arange(part.start, part.stop)
            if not np.array_equal(self._numbers(content, "id", start, len(part), "int64"), ids):
                raise ShardFault("it says that it holds other ids")
            seeds = seeding.derive(manifest.seed, seeding.SAMPLE, ids)
            if not np.array_equal(self._numbers(content, "seed", start, len(part), "uint64"), seeds):
                raise ShardFault("its seeds do not follow from the base seed of the manifest")

    def _part(self, content: Content, name: str, size: int) -> Content:
        """The bytes of a contiguous data set."""
        start = self.offsets[name]
        if start + size > len(content):
            raise ShardFault(f"it has {len(content)} bytes, and {name!r} would end at byte {start + size}")
        return content.part(start, size) if isinstance(content, FileBytes) else content[start : start + size]

    def _numbers(self, content: Content, name: str, first: int, count: int, dtype: str) -> npt.NDArray[Any]:
        """`count` numbers of 8 bytes of a contiguous data set, from number `first` on."""
        return np.frombuffer(self._part(content, name, 8 * (first + count))[8 * first : 8 * (first + count)], dtype)

    def _frame(self, content: Content, manifest: Manifest) -> dict[int, Frame]:
        count = len(self.ids)
        lengths = {name: count * field.row_bytes for name, field in manifest.fields.items()}
        lengths |= {"id": 8 * count, "seed": 8 * count, "checksum": 8 * count * len(manifest.fields)}
        frame = Frame.of(content, self.offsets, lengths)
        return {} if frame is None else {count: frame}


def wrong_content(shard: OpenShard, manifest: Manifest, index: int) -> str | None:
    """Reads a whole shard, and says which sample is not what its checksum says; None if all are.

    Args:
        shard: open.
        manifest: of its folder.
        index: of the shard.

    Raises:
        ShardCorruptError: a compressed sample that cannot be decoded.
    """
    for column, (name, field) in enumerate(manifest.fields.items()):
        row = shard.first_wrong_row(column, field, index)
        if row is not None:
            return f"the checksum of field {name!r} is wrong for id {shard.ids[row]}"
    return None


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
        ShardCorruptError: a compressed sample that cannot be decoded, or a file that was cut meanwhile.
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
    end, index = 0, indices[0]
    try:
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
    except ShardFault as error:
        raise corrupt(shards[index].path, shards[index].ids, str(error)) from error
    return wrong


def _decode_rows(
    out: npt.NDArray[Any], shards: Mapping[int, OpenShard], indices: Sequence[int], rows: Sequence[int], column: int
) -> None:
    address, size = out.ctypes.data, out[0].nbytes
    for k, (index, row) in enumerate(zip(indices, rows, strict=True)):
        shard = shards[index]
        source = shard.compressed[column]
        try:
            if isinstance(source, PlainBloscRows):
                source.decode(row, address + k * size, size)
            elif source is not None:
                source.read(row, out[k])
        except (OSError, RuntimeError, ValueError) as error:
            here = range(shard.ids[row], shard.ids[row] + 1)
            raise corrupt(shard.path, here, f"it cannot be decoded ({error})") from error
