"""A file object for HDF5 that keeps the errors of writes, which HDF5 would drop.

HDF5 writes compressed samples and its own tables whenever it likes: when a data set is let go of, in a destructor
where errors are ignored, and when the file is closed. On a full disk it then leaves chunks out of a file that looks
whole, and may take the interpreter down at its exit because the file never closed. So it writes through this object,
which keeps the first error and lets HDF5 believe that all is well; the writer asks for the error itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from torchgenaug.shards.temporary import TemporaryFile


class ErrorKeepingFile:
    """What h5py's driver ``fileobj`` asks of a file, over a `TemporaryFile`.

    Args:
        temporary: where the bytes go.

    Attributes:
        error: the first error of the system; nothing that HDF5 writes after it reaches the file.
    """

    def __init__(self, temporary: TemporaryFile) -> None:
        self._temporary, self._position = temporary, 0
        self.error: OSError | None = None
        self._lost: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raises `error`, if there is one."""
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a place in the file."""
        base = {os.SEEK_SET: lambda: 0, os.SEEK_CUR: lambda: self._position, os.SEEK_END: self._size}[whence]()
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The place in the file."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Reads on; h5py takes only what has such a method for a file."""
        out = bytearray(max(0, self._size() - self._position) if size < 0 else size)
        self.readinto(memoryview(out))
        return bytes(out)

    def readinto(self, out: memoryview) -> int:
        """Reads on; what could not be written is read nevertheless, so that HDF5 can close its file."""
        found = 0
        if self.error is None:
            try:
                found = os.preadv(self._temporary.descriptor, [out], self._position)
            except OSError as error:
                self.error = error
        for start, content in self._lost:
            low, high = max(start, self._position), min(start + len(content), self._position + len(out))
            if low < high:
                out[low - self._position : high - self._position] = content[low - start : high - start]
        self._position += len(out)
        return found if self.error is None else len(out)

    def write(self, content: memoryview) -> int:
        """Writes on, all of it; after an error into memory only."""
        if not self._do(lambda: self._temporary.write(content, self._position)):
            self._lost.append((self._position, bytes(content)))
        self._position += len(content)
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        """Sets the length of the file."""
        length = self._position if size is None else size
        self._do(lambda: self._temporary.resize(length))
        return length

    def flush(self) -> None:
        """Does nothing: every write goes to the system at once."""

    def _do(self, action: Callable[[], object]) -> bool:
        if self.error is None:
            try:
                action()
            except OSError as error:
                self.error = error
        return self.error is None

    def _size(self) -> int:
        return os.fstat(self._temporary.descriptor).st_size
