"""`HashedFile`: whether an open file is still what its sha256 was compared with."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from torchgenaug.shards.format import parse_shard_name
from torchgenaug.shards.read.content import Content, FileBytes, ShardFault, Stamp, stamp_of
from torchgenaug.shards.read.seen_rows import is_settled

_PORTION = 1 << 22  # bytes read at once from a file that is not mapped


class HashedFile:
    """What is known of a file whose hash was compared with its name. Safe in threads.

    Args:
        path: of the file.
        content: of the whole file, as it is read.
        stamp: of the file, taken before it was hashed.
        settled: whether no write within the same step of the file system's clock can have followed the hash.
    """

    __slots__ = ("_content", "_path", "_since", "_stamp", "is_settled")

    def __init__(self, path: Path, content: Content, stamp: Stamp, *, settled: bool) -> None:
        self._path, self._content, self._stamp, self.is_settled = path, content, stamp, settled
        self._since = time.monotonic_ns()

    def confirm(self) -> bool:
        """Looks whether the file was written to, and hashes its content again if it may have been.

        To be called after samples were copied: a write changes the times of a file before its content.

        Returns:
            Whether the path still names this file. If not, what was read before is right, and what is written from
            now on would not be noticed.

        Raises:
            ShardFault: it is not what its name states any more.
        """
        try:
            stamp = stamp_of(os.stat(self._path))
        except OSError:
            stamp = None
        if stamp == self._stamp and self.is_settled:
            return True
        named = stamp is not None and stamp[:2] == self._stamp[:2]
        if named and stamp is not None and stamp[2] != len(self._content):
            raise ShardFault(f"it was cut or lengthened to {stamp[2]:,} bytes after it had been hashed")
        now = time.monotonic_ns()
        if stamp != self._stamp:
            self._since = now
        settled = stamp is not None and is_settled(stamp, now - self._since)
        actual = _sha256(self._content)
        if actual != (parse_shard_name(self._path.name) or (0, ""))[1]:
            raise ShardFault(f"it was written to after it had been hashed: the sha256 of its content is {actual} now")
        if named and stamp is not None:
            self._stamp, self.is_settled = stamp, settled
        return named


def _sha256(content: Content) -> str:
    if not isinstance(content, FileBytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    for start in range(0, len(content), _PORTION):
        digest.update(content[start : start + _PORTION])
    return digest.hexdigest()
