"""Files that appear whole or not at all: written under a name that no reader accepts, then renamed.

A file that is being written is held by a lock that dies with its process, so that what a dead one left can be removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import secrets
import time
from pathlib import Path

from torchgenaug.file_locks import warn_without_locks

_TEMP_PREFIX, _TEMP_SUFFIX = ".torchgenaug-", ".tmp"
_ABANDONED_S = 3600.0


def _kernel() -> str:
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        identity = platform.node()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


KERNEL = _kernel()
"""Names the kernel that keeps this process's locks (containers share it). A lock is sure to be seen only by it."""


class TemporaryFile:
    """A new file in a folder under a name that no reader accepts, locked as long as this process lives.

    Args:
        folder: where.
        tag: a part of the name.

    Attributes:
        path: where it is until `commit`.
        descriptor: open for reading and writing.
    """

    def __init__(self, folder: Path, tag: str = "") -> None:
        self._durable = False
        while True:
            self.path = folder / f"{_TEMP_PREFIX}{tag}{KERNEL}-{secrets.token_hex(8)}{_TEMP_SUFFIX}"
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                _lock(self.descriptor)
                # Another process may have taken the file for abandoned in the moment before it was locked.
                if os.fstat(self.descriptor).st_nlink:
                    return
            except BaseException:
                self.discard()
                raise
            self._close()

    def write(self, content: bytes | memoryview, position: int = 0) -> None:
        """Writes all of `content`, however few bytes the system takes at once."""
        rest = memoryview(content)
        self._durable = False
        while len(rest):
            written = os.pwrite(self.descriptor, rest, position)
            rest, position = rest[written:], position + written

    def resize(self, size: int) -> None:
        """Cuts the file, or lengthens it with zeros."""
        os.ftruncate(self.descriptor, size)
        self._durable = False

    def reserve(self, size: int) -> None:
        """Takes room for so many bytes, so that a full disk shows now; where the file system can."""
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self.descriptor, 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
            self._durable = False

    def sync(self) -> None:
        """Makes the content durable; does nothing if it is."""
        if not self._durable:
            os.fsync(self.descriptor)
            self._durable = True

    def commit(self, name: str, *, exclusive: bool = False) -> bool:
        """Gives the file its final name: content durable first, name visible then, name durable last.

        Args:
            name: in the same folder; an existing file of that name is replaced at once.
            exclusive: leave an existing file alone instead (False is returned then).
        """
        target = self.path.with_name(name)
        self.sync()
        if exclusive:
            try:
                os.link(self.path, target)
            except FileExistsError:
                self.discard()
                return False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise
                os.replace(self.path, target)  # a file system without hard links
            else:
                os.unlink(self.path)
        else:
            os.replace(self.path, target)
        self._close()
        sync_folder(target.parent)
        return True

    def discard(self) -> None:
        """Closes and removes the file; does nothing after `commit` or another `discard`."""
        if self.descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self._close()

    def leave(self, content: bytes) -> None:
        """Lets go of the file with `content` in it: for others to read until it is removed as abandoned."""
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                self.write(content)
            self._close()

    def _close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)


def remove_abandoned(folder: Path) -> int:
    """Removes temporary files whose process is dead; returns how many.

    Those of another machine or of a file system without locks, where a lock says nothing, only after an hour without a
    change.
    """
    removed = 0
    for name in os.listdir(folder):
        if not (name.startswith(_TEMP_PREFIX) and name.endswith(_TEMP_SUFFIX)):
            continue
        # A file of another user that may not be read or removed stays: no reader accepts its name.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            descriptor = _open_to_lock(folder / name)
            if descriptor is None:
                continue
            try:
                status = os.fstat(descriptor)
                # What a rank left when it failed says itself that it is over.
                over = name.startswith(f"{_TEMP_PREFIX}rank") and status.st_size > 0
                old = time.time() - status.st_mtime > _ABANDONED_S
                free = _try_lock(descriptor)
                if (free and (over or old or f"-{KERNEL}-" in name)) or (free is None and (over or old)):
                    os.unlink(folder / name)
                    removed += 1
            finally:
                os.close(descriptor)
    return removed


def probe_lock(path: Path) -> bool | None:
    """Whether a process of this machine holds the lock of a temporary file; None where there are no locks.

    Raises:
        FileNotFoundError: the file is gone.
    """
    try:
        descriptor = _open_to_lock(path)
    except PermissionError:  # another user's, and not to be read by this one
        return None
    if descriptor is None:
        return None
    try:
        return None if (free := _try_lock(descriptor)) is None else not free
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Makes renames and new files in `folder` survive a power cut, if this user may open the folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_to_lock(path: Path) -> int | None:
    """A descriptor; None for what is none of our files: a folder, a link."""
    # Locks on network file systems want a file that is open for writing; those of other users are often only readable.
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        try:
            return os.open(path, os.O_RDWR | flags)
        except PermissionError:
            return os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise


def _lock(descriptor: int) -> None:
    """Takes the lock of a new file; another process may hold it for the moment in which it looks."""
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            warn_without_locks(
                error,
                "Renders are as safe as elsewhere, but what a killed one leaves stays for an hour, and a rank that "
                "dies is missed by its silence only.",
            )


def _try_lock(descriptor: int) -> bool | None:
    """Whether this process now holds the lock; None where the system or the file system knows no locks."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
