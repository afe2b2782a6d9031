"""One run per folder: a lock that ends with its process, and the removal of what killed runs left half written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from torchgenaug.errors import ConfigurationError
from torchgenaug.file_locks import lock_now
from torchgenaug.local_paths import make_folder

_LOCK = ".fit.lock"
# Files are written next to their place under such a name, with the number of the process, and then renamed.
_DRAFT = re.compile(r"\..+\.\d+(\.csv)?")


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Holds the lock of the folder `out` (made where it is missing), and removes drafts of earlier processes.

    Raises:
        ConfigurationError: another run holds it.
    """
    make_folder(out)
    descriptor = open_lock(out / _LOCK)
    try:
        if not lock_now(descriptor):
            raise ConfigurationError(
                f"`out` must be a folder that no other run trains in, got {str(out)!r}, which is in use. Nothing was "
                "changed. Wait for the other run or stop it, or choose another folder."
            )
        _remove_drafts(out)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


def open_lock(path: Path) -> int:
    """The file of a lock; one of another user may often only be read, which is enough to lock it.

    Raises:
        ConfigurationError: it is a link or a folder.
    """
    flags = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
        except PermissionError:
            return os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ELOOP):
            raise
        raise ConfigurationError(
            f"{path} must be a file, got {'a folder' if error.errno == errno.EISDIR else 'a link'}: it is the lock of "
            "its folder. Nothing was changed. Remove it."
        ) from error


def remove_run(out: Path, run: str) -> None:
    """Removes the folder of an earlier run in `out`: its checkpoint, pictures and settings."""
    if (out / run).exists():
        shutil.rmtree(out / run)


def _remove_drafts(out: Path) -> None:
    for path in out.rglob(".*"):
        if _DRAFT.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)
