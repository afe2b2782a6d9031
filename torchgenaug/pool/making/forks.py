"""Pauses the generation of samples while the process forks.

A forked child gets the memory of its parent, but of its threads only the one that forked. A lock that the filler's
thread holds at that moment, inside torch, oneDNN or an allocator, stays locked in the child for ever, and a DataLoader
worker that needs it hangs. So a fork waits for the batch in flight, and the thread waits for the fork.

Python prints and drops whatever the functions that it calls before and after a fork raise, a KeyboardInterrupt too:
Ctrl-C while a fork waits for the model would be lost. So a signal that arrives meanwhile is kept until then.

h5py takes its lock before a fork, too. Python calls what was registered last first: where h5py was imported after this
module, a fork would hold h5py's lock while it waits for a thread that needs it. So `stay_first` registers once more.
"""

from __future__ import annotations

import _thread
import functools
import itertools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Pausable(Protocol):
    """Something with a thread that must not work during a fork."""

    def announce_fork(self) -> None:
        """A fork comes: the thread begins nothing more, but for what somebody waits for."""
        ...

    def hold(self) -> bool:
        """If the thread is at rest, keeps it there until `release`; otherwise returns False."""
        ...

    def wait_until_idle(self) -> None:
        """Returns when the thread is at rest, or counts as hung."""
        ...

    def release(self) -> None:
        """Ends what `hold` began."""
        ...

    def resume(self) -> None:
        """The fork is over, in the parent."""
        ...

    def forget(self) -> None:
        """In the child: the thread is gone, locks may be in any state."""
        ...


_numbers = itertools.count()
_alive: weakref.WeakValueDictionary[int, Pausable] = weakref.WeakValueDictionary()
_of_thread = threading.local()
_kept_signals: list[int] = []
_registered_after: set[str] = set()


def pause_during_forks(pausable: Pausable) -> None:
    """From now on, and while it lives, `pausable` rests while this process forks."""
    _alive[next(_numbers)] = pausable
    stay_first()


def stay_first() -> None:
    """To be called by whoever may use h5py next in a thread of its own; costs nothing when called again."""
    if "h5py" not in _registered_after and hasattr(sys.modules.get("h5py"), "File"):  # imported to its end
        _registered_after.add("h5py")
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def alive() -> list[Pausable]:
    """All that still live, oldest first."""
    # `valuerefs` is a single step of C code: other threads may add to the dictionary meanwhile.
    references = _alive.valuerefs()
    return [pausable for reference in references if (pausable := reference()) is not None]


def _before() -> None:
    if getattr(_of_thread, "announced", None):  # registered twice
        return
    _of_thread.announced, _of_thread.held = alive(), []
    with _signals_kept():
        for pausable in _of_thread.announced:
            pausable.announce_fork()
        # All at rest at once. While one works the others are let go: it may be waiting for a batch of theirs. Always
        # in the same order: two threads that fork at once must not wait for each other.
        while busy := next((pausable for pausable in _of_thread.announced if not _hold(pausable)), None):
            _release()
            busy.wait_until_idle()


def _hold(pausable: Pausable) -> bool:
    held = pausable.hold()
    if held:
        _of_thread.held.append(pausable)
    return held


def _release() -> None:
    while _of_thread.held:
        _of_thread.held.pop().release()


def _after_in_parent() -> None:
    if getattr(_of_thread, "announced", None) is None:
        return
    _release()
    for pausable in _of_thread.announced:
        pausable.resume()
    _of_thread.announced = None


def _after_in_child() -> None:
    _of_thread.announced, _of_thread.held = None, []
    for pausable in alive():
        pausable.forget()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keeps the last signal that Python would handle, in the one thread that handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _kept_signals.clear()
    if not len(_alive):
        yield
        return

    def keep(number: int, _: object) -> None:
        _kept_signals[:] = [number]

    handlers = {number: handler for number in signal.valid_signals() if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, keep)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
# Sends the kept signal again, if there is one. In Python it would be handled, and dropped, before this function ended;
# `max` is C, so that the first to notice is whoever called `os.fork`.
os.register_at_fork(after_in_parent=functools.partial(max, _kept_signals, key=_thread.interrupt_main, default=None))
os.register_at_fork(after_in_parent=_kept_signals.clear, after_in_child=_kept_signals.clear)
