"""The local cache of remote shard folders: private, so that what lies in it is what this user fetched."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from torchgenaug.errors import ConfigurationError
from torchgenaug.file_locks import warn_without_locks

_CACHE_VARIABLE = "TORCHGENAUG_CACHE"
_LOCK_NAME = ".torchgenaug-fetching"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_root(cache: str | os.PathLike[str] | None) -> Path:
    """Where remote folders are kept: `cache`, ``$TORCHGENAUG_CACHE`` or ``~/.cache/torchgenaug``."""
    if cache is not None:
        return Path(cache)
    return Path(os.environ.get(_CACHE_VARIABLE) or "~/.cache/torchgenaug").expanduser()


def private_folder(root: Path, name: str) -> Path:
    """The folder `name` in `root`, made with mode 0700 if it is absent.

    Raises:
        ConfigurationError: `root` or the folder belongs to another user, or others may write it. Whoever may write a
            cache decides what is read from it.
    """
    folder = root / name
    missing = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    if missing:
        root.chmod(0o700)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    for place, is_root in ((root, True), (folder, False)):
        status = place.stat() if is_root else place.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigurationError(
                f"`cache` must hold folders of its own, got {str(place)!r}, which is a link. Remove it."
            )
        if not hasattr(os, "geteuid"):  # Windows: its rights are no modes
            continue
        # In a sticky folder, such as /tmp, others cannot replace what is ours; but whoever owns it can.
        open_to_others = status.st_mode & _OTHERS_WRITE and not (is_root and status.st_mode & stat.S_ISVTX)
        foreign = status.st_uid not in (os.geteuid(), 0)
        if open_to_others or foreign:
            raise ConfigurationError(
                f"`cache` must be a folder that only this user can write, got {str(place)!r} of user {status.st_uid} "
                f"with mode {stat.S_IMODE(status.st_mode):04o}. Nothing was read: others may have put files there. Use "
                f"another `cache`, or, if you trust what is there: chmod go-w {place}"
            )
    return folder


def is_cache(folder: Path) -> bool:
    """Whether a shard folder is the local copy of a remote one; False: it was rendered or copied here."""
    return (folder / _LOCK_NAME).exists()


def fetch_again(path: Path) -> str:
    """How to have a damaged or missing file of a cache whole again; empty: its folder is not a cache."""
    if not is_cache(path.parent):
        return ""
    return (
        "It is the local copy of a remote file. Delete it, and open the URL again, which fetches it anew: "
        f"rm -f {shlex.quote(str(path))}"
    )


def not_a_file(path: Path) -> ConfigurationError:
    """What is wrong with a cache where something else than a file has the name of one."""
    return ConfigurationError(
        f"`cache` must hold files of its own, got {str(path)!r}, which is a link or a folder that somebody put there. "
        f"Nothing was fetched to it. Remove it, and open the URL again: rm -r {shlex.quote(str(path))}"
    )


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Waits for whoever fetches into `folder`. The lock dies with its process.

    Raises:
        ConfigurationError: the file of the lock is a link or a folder.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(folder / _LOCK_NAME, flags, 0o600)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK, errno.EISDIR):
            raise
        raise not_a_file(folder / _LOCK_NAME) from error
    try:
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:  # never wrong: each file is renamed into place
                warn_without_locks(error, "Processes that open the same URL at once each fetch it.")
        yield
    finally:
        os.close(descriptor)


def holds(folder: Path, name: str, content: bytes) -> bool:
    """Whether a regular file of this name and content lies in the folder."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        return stat.S_ISREG(status.st_mode) and status.st_size == len(content) and file.read() == content
