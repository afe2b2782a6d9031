"""The open shards of a folder: a bounded number of them, opened when they are first read."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from torchgenaug.shards.format import Manifest, shard_name
from torchgenaug.shards.read.blosc import find_decoder
from torchgenaug.shards.read.content import ShardFault, Stamp
from torchgenaug.shards.read.frame import Frame
from torchgenaug.shards.read.layout import corrupt
from torchgenaug.shards.read.opened import OpenShard

MAX_MAPS = 16_384
"""Maps hold no file handle, so this bounds only address space and some 3 KiB of memory each."""
MAX_FILES = 128
"""Without maps, and where Blosc is read through HDF5, each shard keeps a handle."""


class OpenShards:
    """The shards of a folder, opened when first read; the least recently used are let go when there are too many.

    Belongs to one process. Safe in threads.

    Args:
        folder: the shard folder.
        manifest: its manifest.
        digests: (num_shards, 32) uint8, the sha256 of each shard.
        hashed: compare the sha256 when a shard is first opened, and again if the file is another when it is reopened.
        mapped: see `OpenShard`.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, digests: npt.NDArray[np.uint8], *, hashed: bool, mapped: bool = True
    ) -> None:
        self.pid = os.getpid()
        self._folder, self._manifest, self._digests = folder, manifest, digests
        self._hashed, self._mapped = hashed, mapped
        by_maps = mapped and (manifest.compression in (None, "gzip") or find_decoder() is not None)
        self._limit = MAX_MAPS if by_maps else _most_files()
        self._lock = threading.RLock()  # a signal handler may read, too
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._known: dict[int, dict[Stamp, dict[str, int]]] = {}
        self._offsets: dict[str, int] = {}
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
        shard: OpenShard | None = None
        try:
            while shard is None:
                try:
                    shard = self._new(path, index)
                except RuntimeError as error:
                    if "unable to mmap" not in str(error) or not self._mapped:
                        raise
                    self._make_room()
        except ShardFault as error:
            raise corrupt(path, self._manifest.shard_range(index), str(error)) from error
        # Shards of one size share their layout; one dict serves them all.
        self._offsets = self._offsets if self._offsets == shard.offsets else shard.offsets
        if shard.hashed is None or shard.hashed.is_settled:
            self._known[index] = {shard.stamp: self._offsets}
        return shard

    def _make_room(self) -> None:
        """Lets half of the maps go; where there are none, files are read without maps from now on.

        The system allows a process so many maps (65,530 is usual) and so much address space, and other sources have
        some, too; some file systems have no maps.
        """
        if not self._open:
            self._mapped, self._limit = False, _most_files()
        for _ in range((len(self._open) + 1) // 2):
            self._open.popitem(last=False)

    def confirm(self, shards: Mapping[int, OpenShard]) -> None:
        """Looks whether open shards that were hashed are still what they were; see `HashedFile.confirm`.

        Raises:
            ShardCorruptError: one of them was written to.
        """
        for index, shard in shards.items():
            try:
                if shard.hashed is None or shard.hashed.confirm():
                    continue
            except ShardFault as error:
                raise corrupt(shard.path, shard.ids, str(error)) from error
            with self._lock:  # the next read opens, and hashes, what lies there now
                if self._open.get(index) is shard:
                    del self._open[index]

    def _new(self, path: Path, index: int) -> OpenShard:
        return OpenShard(
            path,
            self._manifest,
            index,
            known=self._known.get(index),
            digest=self._hashed,
            frames=self._frames,
            mapped=self._mapped,
        )


def _most_files() -> int:
    """How many shards may keep a handle: a quarter of what the process may open."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return MAX_FILES
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_FILES if allowed < 0 else max(1, min(MAX_FILES, allowed // 4))
