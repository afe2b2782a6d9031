"""The bytes of one file, opened once: whatever is checked is what is read, wherever its name points later."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from torchgenaug.errors import ShardIncompleteError
from torchgenaug.shards.cache import fetch_again

_DESCRIPTORS = Path("/proc/self/fd")
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "lustre", "beegfs", "gpfs", "glusterfs", "fuse")
"""How the types of file systems begin whose files other machines may cut while they are mapped here."""


Stamp: TypeAlias = tuple[int, int, int, int, int]


class ShardFault(ValueError):  # noqa: N818 (a finding, which the reader turns into an error)
    """What is wrong with one file. The reader makes a `ShardCorruptError` of it, the verifier a line of its report."""


class _Handle:
    """A duplicate of a descriptor, closed with the last reference to it."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = -1
        self.descriptor = os.dup(descriptor)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class FileBytes:
    """The bytes of an open file without a map: sliced like a memoryview, each slice one read.

    Args:
        handle: of the file; `read_file` makes one.
        start: where in the file it begins.
        size: how many bytes it has.
    """

    __slots__ = ("_handle", "_size", "_start")

    def __init__(self, handle: _Handle, start: int, size: int) -> None:
        self._handle, self._start, self._size = handle, start, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        pieces, position, end = [], self._start + start, self._start + stop
        while position < end:
            piece = os.pread(self._handle.descriptor, end - position, position)
            if not piece:
                raise ShardFault(f"it ends at byte {position}, before its data do: it was cut since it was opened")
            pieces.append(piece)
            position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def part(self, start: int, size: int) -> FileBytes:
        """`size` bytes from `start` on."""
        return FileBytes(self._handle, self._start + start, size)


Content: TypeAlias = memoryview | FileBytes


class ContentFile:
    """What h5py's driver ``fileobj`` asks of a file that is only read.

    Args:
        content: of the whole file.
    """

    def __init__(self, content: Content) -> None:
        self._content, self._position = content, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a place in the file."""
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._content)}
        self._position = bases[whence] + offset
        return self._position

    def tell(self) -> int:
        """The place in the file."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Reads on; h5py takes only what has such a method for a file."""
        stop = len(self._content) if size < 0 else self._position + size
        found = bytes(self._content[self._position : stop])
        self._position += len(found)
        return found

    def readinto(self, out: memoryview) -> int:
        """Reads on; zeros beyond the end, which no check of ours accepts."""
        found = bytes(self._content[self._position : self._position + len(out)])
        out[:] = found.ljust(len(out), b"\0")
        self._position += len(out)
        return len(out)

    def write(self, content: memoryview) -> int:
        """Refuses."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def truncate(self, size: int | None = None) -> int:
        """Refuses."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def flush(self) -> None:
        """Does nothing."""


def open_file(path: Path, ids: range) -> int:
    """A descriptor of a shard, which must be a regular file or a link to one: what it holds is checked either way.

    Args:
        path: of the file.
        ids: what it holds, for the message.

    Raises:
        ShardFault: it is something else, or empty.
        ShardIncompleteError: it is gone.
        OSError: the system refuses to open it.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: to open a device may do something
            raise ShardFault("it is not a regular file")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ShardIncompleteError(
            f"{path} was there when the folder was opened and is gone; it held samples {ids.start} to {ids.stop - 1}. "
            + (fetch_again(path) or "Make it again by running the same render once more.")
        ) from error
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK):
            raise
        raise ShardFault("it is a link that leads in a circle") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        os.close(descriptor)
        raise ShardFault("it is not a regular file" if status.st_size else "it is empty")
    return descriptor


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes if a file is replaced or written to: device, inode, bytes, times of modification and change (ns)."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_file(descriptor: int) -> FileBytes:
    """The whole file, to be read part by part; keeps a handle of its own."""
    return FileBytes(_Handle(descriptor), 0, os.fstat(descriptor).st_size)


def map_file(descriptor: int) -> memoryview:
    """The whole file, read-only.

    Raises:
        RuntimeError: the process has too many maps already.
    """
    size, place = os.fstat(descriptor).st_size, _DESCRIPTORS / str(descriptor)
    if not place.exists():
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
    # Unlike `mmap`, torch's map keeps no file handle.
    storage: Any = torch.UntypedStorage.from_file(str(place), False, size)
    array: Any = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    array.flags.writeable = False
    view: memoryview = np.asarray(array, np.uint8).data
    return view


def on_network(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether a path lies on a network file system, as far as the system tells (Linux).

    Args:
        path: exists.
        mounts: the table of mounts, in the format of ``proc_pid_mountinfo(5)``.
    """
    try:
        device = os.stat(path).st_dev
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return False
    number, kind = f"{os.major(device)}:{os.minor(device)}", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        if number in before.split()[2:3]:
            kind = after.split(" ", 1)[0]
    return kind.startswith(_NETWORK)
