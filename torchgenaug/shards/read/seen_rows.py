"""`SeenRows`: which samples of an open shard were compared with their checksums since its file was last written."""

from __future__ import annotations

import os
import time
from pathlib import Path

from torchgenaug.shards.read.content import Stamp, stamp_of

SETTLED_NS = 2_000_000_000
"""File systems note times of change in steps of up to two seconds (FAT); two writes in one step look like one."""


def is_settled(stamp: Stamp, known_ns: int = -1) -> bool:
    """Whether a write from now on gives the file another stamp.

    Args:
        stamp: of the file now.
        known_ns: for how long it has had this stamp by our own clock; that of a file server may be ahead.
    """
    return max(time.time_ns() - max(stamp[3:]), known_ns) >= SETTLED_NS


class SeenRows:
    """What this process has compared of one file. Safe in threads: a row is noted after it was compared.

    A file is taken as unchanged while its device, inode, size and times of modification and of change stay as they
    are, and those times lie two seconds back or more (the rule by which git finds a changed file). A write by a system
    call, a cut, a `touch` and a replacement of the file are seen like that. What another process stores through a
    shared map of the file need not be, nor what memory or a disk do by themselves to pages that were compared.

    Args:
        path: of the file.
        descriptor: of the same file, open.
        count: samples in it.
        columns: fields of a sample.
    """

    __slots__ = ("_count", "_firsts", "_marks", "_path", "_place", "_stamp")

    def __init__(self, path: Path, descriptor: int, count: int, columns: int) -> None:
        status = os.fstat(descriptor)
        self._path, self._count, self._place = str(path), count, (status.st_dev, status.st_ino)
        self._marks: list[bytearray] = [bytearray()] * columns
        self._firsts = [0] * columns  # from where on a sample of the field may not have been compared; -1: nowhere
        self._stamp: Stamp | None = None

    def marks(self) -> list[bytearray] | None:
        """Per field a byte for each sample, not 0 where it was compared; to be filled. None: compare all of them."""
        try:
            stamp = stamp_of(os.stat(self._path))
        except OSError:  # it was removed: nothing shows whether what is mapped was written to
            return None
        if stamp == self._stamp:
            return self._marks
        if stamp[:2] != self._place or not is_settled(stamp):
            return None
        marks = [bytearray(self._count) for _ in self._marks]  # zeroed pages: no memory before they are written
        self._marks, self._firsts, self._stamp = marks, [0] * len(marks), stamp
        return marks

    def is_complete(self, column: int) -> bool:
        """Whether all samples of a field were compared; to be called after `marks` gave its marks."""
        firsts = self._firsts
        if firsts[column] >= 0:
            firsts[column] = self._marks[column].find(0, firsts[column])
        return firsts[column] < 0
