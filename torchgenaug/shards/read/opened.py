"""One open shard: the content of one file, checked once, and how its samples are copied out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug import seeding
from torchgenaug.shards.format import Manifest
from torchgenaug.shards.read.blosc import PlainBloscRows, find_decoder
from torchgenaug.shards.read.chunks import BloscRows, Extents, GzipRows, check_blosc
from torchgenaug.shards.read.content import (
    Content,
    FileBytes,
    ShardFault,
    Stamp,
    map_file,
    open_file,
    read_file,
    stamp_of,
)
from torchgenaug.shards.read.frame import Frame
from torchgenaug.shards.read.hashed_file import HashedFile
from torchgenaug.shards.read.layout import check_digest, open_checked
from torchgenaug.shards.read.seen_rows import SeenRows, is_settled

_AT_ONCE = 1 << 16  # ids and seeds compared at once: a file may claim any number of them


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
        stamp: of the file when it was opened, see `content.stamp_of`.
        hashed: whether it is still what was hashed; None where `digest` is False.
        seen: which samples were compared with their checksums; None where a file is not mapped: a sample is then read
            from the file system each time.

    Raises:
        ShardFault: the file is anything else than this shard.
        ShardIncompleteError: there is no such file.
    """

    __slots__ = ("_file", "compressed", "hashed", "ids", "maps", "offsets", "path", "seen", "stamp", "sums")

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        index: int,
        *,
        known: Mapping[Stamp, dict[str, int]] | None,
        digest: bool,
        frames: dict[int, Frame] | None = None,
        mapped: bool = True,
        descriptor: int | None = None,
    ) -> None:
        self.path, self.ids = path, manifest.shard_range(index)
        self._file: Any = None
        handle = open_file(path, self.ids) if descriptor is None else descriptor
        try:
            self.stamp = stamp_of(os.fstat(handle))
            # Before it is hashed: a file of a few bytes may claim a terabyte of nothing.
            if self.stamp[2] > manifest.most_bytes():
                raise ShardFault(f"it has {self.stamp[2]:,} bytes, more than any shard of this render")
            self._open(handle, manifest, index, (known or {}).get(self.stamp), digest, frames, mapped)
            self.seen = SeenRows(path, handle, len(self.ids), len(self.maps)) if mapped else None
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
        settled = not new or is_settled(self.stamp)
        if new and digest:
            check_digest(self.path, descriptor)
        content: Content = map_file(descriptor) if mapped else read_file(descriptor)
        self.hashed = HashedFile(self.path, content, self.stamp, settled=settled) if digest else None
        if new and frame is not None and not digest and frame.fits(content):
            known = frame.offsets
        chunks: dict[str, Extents] = {}

        def check_numbers(offsets: dict[str, int]) -> None:
            self.offsets = offsets
            if new:
                self._check_numbers(content, manifest)

        if known is None or manifest.compression is not None:
            self._file, known, chunks = open_checked(content, manifest, index, check_numbers)
        self.offsets = known
        self._take(content, manifest, chunks)
        if new and not chunks:
            self._check_numbers(content, manifest)
        self.sums = self._numbers(content, "checksum", 0, len(self.ids) * len(manifest.fields), "uint64").data
        if frames is not None and frame is None and manifest.compression is None:
            frames.update(self._frame(content, manifest))

    def seen_all(self, column: int) -> bool:
        """Whether all samples of a field were compared since the file was last written."""
        return self.seen is not None and self.seen.is_complete(column)

    def close(self) -> None:
        """Closes the HDF5 file, if one is open. The content goes with the last reference to it."""
        if self._file is not None:
            self._file.close()
            self._file = None

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
