"""`ForkGate`: the lock of a pool's filler, which keeps its thread at rest while the process forks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from torchgenaug.pool.making import forks
from torchgenaug.pool.storage.ring import Ring

# After a fork the thread rests this long: a DataLoader forks its workers one after another, and each fork would have to
# wait for another batch.
_QUIET_S = 0.1


class ForkGate:
    """Who makes a batch, who waits for one, and whether the process is about to fork; see `forks.Pausable`.

    Args:
        ring: says when a batch was begun.
        timeout_s: how long after that it counts as hung; it holds up forks no longer.
        elsewhere: whether batches are made in another process, which a fork of this one does not concern.

    Attributes:
        changed: a condition; its lock guards all that the filler and this object hold.
        maker: ident of the thread that makes a batch right now, None while nobody does.
    """

    def __init__(self, ring: Ring, timeout_s: float, *, elsewhere: bool) -> None:
        self._ring, self._timeout_s, self._elsewhere = ring, timeout_s, elsewhere
        self.maker: int | None = None
        self._begin()
        self._quiet_until_s = 0.0
        forks.pause_during_forks(self)

    def claim(self) -> None:
        """Marks the calling thread, which holds the lock, as the one that makes a batch."""
        forks.stay_first()
        self.maker = threading.get_ident()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within it a thread waits for a batch, with the lock: the maker goes on, even during a fork."""
        self._waiting += 1
        self.changed.notify_all()  # also during a fork: another pool's model may be what waits
        try:
            yield
        finally:
            self._waiting -= 1

    @property
    def is_shut(self) -> bool:
        """Whether nothing may be begun now: a fork comes or has just been, and nobody waits."""
        return bool((self._forking or time.monotonic() < self._quiet_until_s) and not self._waiting)

    def wait(self) -> None:
        """Waits, with the lock, until something changes or the rest after a fork is over."""
        quiet_s = self._quiet_until_s - time.monotonic()
        self.changed.wait(quiet_s if quiet_s > 0 else None)

    def announce_fork(self) -> None:
        """See `forks.Pausable`, here and below."""
        with self.lock:
            self._forking += 1

    def hold(self) -> bool:
        """Keeps the lock if nothing is being made."""
        self.changed.acquire()
        if not self._works(self._hung_at_s()):
            return True
        self.changed.release()
        return False

    def wait_until_idle(self) -> None:
        """Returns when the batch in flight is there, or counts as hung: once, for all forks."""
        with self.lock:
            until = self._hung_at_s()
            while self._works(until):
                self.changed.wait(until - time.monotonic())

    def release(self) -> None:
        """Gives the lock back."""
        self.changed.release()

    def resume(self) -> None:
        """Ends what `announce_fork` began, after a short rest."""
        with self.lock:
            self._forking -= 1
            self._quiet_until_s = time.monotonic() + _QUIET_S
            self.changed.notify_all()

    def forget(self) -> None:
        """Begins anew."""
        self._begin()

    def _hung_at_s(self) -> float:
        return float(self._ring.get("progress_at_s")) + self._timeout_s

    def _begin(self) -> None:
        # Ctrl-C inside `with` of the condition, which is written in Python, would leave its lock taken.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.maker = None
        self._forking = self._waiting = 0

    def _works(self, until_s: float) -> bool:
        return not self._elsewhere and self.maker not in (None, threading.get_ident()) and time.monotonic() < until_s
