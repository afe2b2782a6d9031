"""Locks of open files, which end with their process, and the line for a file system that has none."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def warn_without_locks(error: OSError, consequence: str) -> None:
    """Warns, once per text and process, that a lock could not be taken because there are none.

    Args:
        error: what the system answered.
        consequence: what is different without locks, and what to do about it.
    """
    warnings.warn(
        f"The file system of this folder has no locks ({error.strerror or error}). {consequence}",
        RuntimeWarning,
        stacklevel=3,
    )


def lock_now(descriptor: int) -> bool:
    """Takes the lock of an open file without waiting; False where another process holds it. Closing returns it.

    Warns:
        RuntimeWarning: a file system without locks; nobody else is noticed there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return _take_on_windows(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        warn_without_locks(
            error, "A second run in the same folder would not be noticed, and the two would mix their files. Start one."
        )
    return True


def _take_on_windows(descriptor: int) -> bool:
    import msvcrt

    lock = msvcrt.locking  # type: ignore[attr-defined, unused-ignore]
    try:
        lock(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    except OSError:
        return False
    return True


@contextmanager
def folder_held(folder: Path) -> Iterator[bool]:
    """Locks a folder, in which nothing is written for it; False where another process holds it.

    Windows cannot open a folder: nobody else is noticed there.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except PermissionError:
        yield True
        return
    try:
        yield lock_now(descriptor)
    finally:
        os.close(descriptor)  # which gives the lock back
