"""`SharedMemory`: one block of memory that forked and spawned processes see, with no name that could be left behind."""

from __future__ import annotations

import fcntl
import mmap
import multiprocessing.context
import os
import tempfile
import threading
import weakref
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, TypeVar

from torchgenaug.errors import PoolError

_Result = TypeVar("_Result")

_NAME = "torchgenaug-pool"
_MEMINFO, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
# Limit and usage of a container's memory, in the second and in the first version of control groups.
_GROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


class Exclusive:
    """A lock of threads and processes: ``exclusive(action)``.

    A record lock of the kernel, unlike a semaphore, dies with its owner: a killed worker cannot block the others. It
    belongs to the process, so that threads need a lock of their own. A signal handler may come in at any point of an
    `action`, as Ctrl-C does, and may use the lock again or raise.

    Args:
        descriptor: a file that all of them have open.
    """

    __slots__ = ("_descriptor", "_held", "_pid", "_threads")

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._threads, self._held, self._pid = descriptor, threading.RLock(), False, os.getpid()

    def __call__(self, action: Callable[[], _Result]) -> _Result:
        """What `action` returns."""
        # Not a context manager: an exception from a signal handler that meets `__enter__` or `__exit__` written in
        # Python leaves a lock taken. CPython runs handlers after calls and at the beginning of functions; `with` of a
        # lock written in C, and the lines below between two calls, have no such point.
        if self._pid != os.getpid():  # forked, perhaps while another thread of the parent held the lock
            self._threads, self._held, self._pid = threading.RLock(), False, os.getpid()
        with self._threads:
            outermost = not self._held
            try:
                self._held = True
                if outermost:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1)
                return action()
            finally:
                if outermost:
                    self._held = False
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)


class SharedMemory:
    """Zeroed memory, mapped by this process, its forks, and every process that it is pickled to.

    It lives in an anonymous file (``memfd_create``): freed by the kernel with its last user, however that one ends; not
    bound to the size of ``/dev/shm``, which is 64 MB in a container by default. All its pages are reserved at once, so
    that a later write cannot fail. Where there is no ``memfd_create``, an unlinked temporary file serves.

    Args:
        size: bytes, at least one.

    Attributes:
        exclusive: runs a function while all other threads and processes are kept out of theirs.

    Raises:
        OSError: the pages cannot be reserved.
    """

    def __init__(self, size: int) -> None:
        self._attach(_anonymous_file(size), size)

    def _attach(self, descriptor: int, size: int) -> None:
        self.size = size
        self._descriptor = descriptor
        # Without atexit: at exit the kernel closes it, and until then a thread may still use it.
        weakref.finalize(self, os.close, descriptor).atexit = False
        self.buffer = mmap.mmap(descriptor, size)
        self.exclusive = Exclusive(descriptor)

    def __getstate__(self) -> dict[str, Any]:
        if multiprocessing.context.get_spawning_popen() is not None:
            return {"size": self.size, "duplicate": DupFd(self._descriptor)}
        status = os.fstat(self._descriptor)
        path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        return {"size": self.size, "path": path, "file": (status.st_dev, status.st_ino)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "duplicate" in state:
            self._attach(state["duplicate"].detach(), state["size"])
            return
        try:
            descriptor = os.open(state["path"], os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise PoolError(
                f"A pickled pool can be read only on the machine and during the life of the process that owns it; "
                f"{state['path']} cannot be opened. Build the pool anew: equal arguments give equal samples."
            ) from error
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != state["file"]:
            os.close(descriptor)
            raise PoolError("The pool that was pickled is gone. Build it anew: equal arguments give equal samples.")
        self._attach(descriptor, state["size"])


def available_bytes() -> int | None:
    """Memory that may still be taken: of the machine and of the container, whichever is less; None where unknown."""
    limits = []
    machine = _fields_of(_MEMINFO).get("MemAvailable:")
    if machine is not None:
        limits.append(machine * 1024)
    for limit, usage in _GROUP_FILES:
        try:
            most, used = int((_GROUP / limit).read_text()), int((_GROUP / usage).read_text())
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
        # Cached files count as used, but the kernel gives them up when memory is needed.
        reclaimable = _fields_of(_GROUP / Path(limit).parent / "memory.stat").get("inactive_file", 0)
        limits.append(max(0, most - used + reclaimable))
    return min(limits, default=None)


def _fields_of(path: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) >= 2 and line[1].isdigit()}


def _anonymous_file(size: int) -> int:
    descriptor = -1
    if hasattr(os, "memfd_create"):
        try:
            descriptor = os.memfd_create(_NAME)
        except OSError:  # forbidden by a sandbox
            descriptor = -1
    if descriptor < 0:
        with tempfile.TemporaryFile(prefix=_NAME) as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
