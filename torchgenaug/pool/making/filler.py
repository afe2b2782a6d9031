"""`Filler`: makes what a pool's ring lacks, in a thread of its own or in the caller's."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.errors import CollapseWarning, PoolError
from torchgenaug.pool.making import at_exit, forks
from torchgenaug.pool.making.supply import Supply
from torchgenaug.pool.storage.ring import CLOSED, FAILED, RUNNING, SYNCHRONOUS, Ring
from torchgenaug.pool.storage.window import Window
from torchgenaug.pool.texts import CLOSED_TEXT, failed_text, hung_text, moved_text
from torchgenaug.screens import CollapseWatch
from torchgenaug.types import Batch

_EXIT_S = 3.0  # how long the model may stay inside one call of C++ before its thread is given up at exit
# After a fork the thread rests this long: a DataLoader forks its workers one after another, and each fork would have to
# wait for another batch.
_QUIET_S = 0.1
_REST = -1  # stands for a batch: nothing is missing, and the supply may rest


class Filler:
    """The one writer of a ring. It lives in the process that built the pool.

    Args:
        supply: makes the samples, or knows where they lie.
        ring: takes them.
        window: says which are needed.
        seed: base seed of the sequence, for messages.
        timeout_s: how long one batch may take while somebody waits for it.
        background: make them in a daemon thread, from now on; otherwise only in `wait_for`.
    """

    def __init__(
        self, supply: Supply, ring: Ring, window: Window, *, seed: int, timeout_s: float, background: bool
    ) -> None:
        self._supply, self._ring, self._window, self._timeout_s = supply, ring, window, timeout_s
        self._seed = seed
        self._owner = os.getpid()
        self._renew_lock()
        self._maker: int | None = None  # the thread that makes a batch right now
        self._error: BaseException | None = None
        self._error_was_raised = False
        self._stopped, self._rests = False, not supply.rests
        self._watch, self._looked, self._alarm = CollapseWatch(), 0, ""
        self._forking, self._quiet_until_s = 0, 0.0
        self._waiting = 0  # threads of this process that wait for a batch
        self._thread: threading.Thread | None = None
        initialized = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._cuda_device = torch.cuda.current_device() if initialized else None
        ring.set("status", RUNNING if background else SYNCHRONOUS)
        ring.set("progress_at_s", time.monotonic())
        forks.pause_during_forks(self)
        if background:
            if supply.captures_graphs:
                self._make_first()
            # Bound to the filler, not to the pool: the thread must not keep the pool alive.
            self._thread = threading.Thread(target=self._run_to_end, name="torchgenaug-pool", daemon=True)
            self._thread.start()

    def move(self, turn: int) -> None:
        """Makes `turn` the current one, and a failed filler try again.

        Raises:
            PoolError: the background failed and the error was not raised yet; the turn stays as it is.
        """
        with self._lock:
            if not self._error_was_raised:
                self.raise_failure()
            if turn != self._ring.get("turn"):
                self._ring.synchronize()
            self._error, self._error_was_raised = None, False
            self._ring.set("turn", turn)
            self._ring.set("progress_at_s", time.monotonic())
            if self._ring.get("status") == FAILED:
                self._ring.set("status", RUNNING)
            self._changed.notify_all()

    def raise_failure(self) -> None:
        """Raises what went wrong in the background, if anything did."""
        if self._error is not None:
            self._error_was_raised = True
            raise PoolError(self._ring.failure) from self._error

    def wait_for(self, turn: int, batches: npt.NDArray[np.int64]) -> None:
        """Returns when `batches` of `turn` are there.

        Raises:
            PoolError: making them failed, takes longer than the timeout, or the pool was closed or moved meanwhile.
        """
        if self._ring.holds(batches).all():
            return
        if self._thread is None:
            self._fill(turn)
            return
        since = time.monotonic()
        try:
            with self._lock:
                self._waiting += 1
                self._changed.notify_all()  # also during a fork: another pool's model may be what waits
                try:
                    while not self._ring.holds(batches).all():
                        self.raise_failure()
                        self._check_still(turn)
                        late_s = time.monotonic() - max(since, self._ring.get("progress_at_s")) - self._timeout_s
                        if late_s >= 0:
                            raise PoolError(hung_text(self._ring, self._timeout_s))
                        if not self._thread.is_alive():
                            raise PoolError("The pool's thread is gone. Build a new pool.")
                        self._changed.wait(min(-late_s, 1.0))
                finally:
                    self._waiting -= 1
        finally:
            self._ring.add_wait(since)

    def stop(self, wait_s: float = 0.0) -> bool:
        """Ends the thread after the batch in flight; says whether it ended within `wait_s`."""
        if os.getpid() != self._owner:
            return True
        with self._lock:
            self._stopped = True
            self._error = None
            self._ring.set("status", CLOSED)
            self._changed.notify_all()
        self._supply.close()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(wait_s)
        return not thread.is_alive()

    def interrupt(self, until_s: float) -> bool:
        """Ends the thread in the middle of its batch, after `stop`; whether it ended before `until_s` (monotonic)."""
        if self._thread is None or os.getpid() != self._owner:
            return True
        return at_exit.interrupt(self._thread, until_s)

    def announce_fork(self) -> None:
        """See `forks.Pausable`."""
        with self._lock:
            self._forking += 1

    def hold(self) -> bool:
        """See `forks.Pausable`."""
        self._changed.acquire()
        if not self._works(self._hung_at_s()):
            return True
        self._changed.release()
        return False

    def wait_until_idle(self) -> None:
        """See `forks.Pausable`. A batch that hangs holds up forks no longer than the timeout."""
        with self._lock:
            until = self._hung_at_s()
            while self._works(until):
                self._changed.wait(until - time.monotonic())

    def release(self) -> None:
        """See `forks.Pausable`."""
        self._changed.release()

    def resume(self) -> None:
        """See `forks.Pausable`."""
        with self._lock:
            self._forking -= 1
            self._quiet_until_s = time.monotonic() + _QUIET_S
            self._changed.notify_all()

    def forget(self) -> None:
        """See `forks.Pausable`."""
        self._renew_lock()
        self._thread, self._maker, self._forking, self._waiting = None, None, 0, 0

    def _works(self, until_s: float) -> bool:
        mine = (None, threading.get_ident())
        return not self._supply.elsewhere and self._maker not in mine and time.monotonic() < until_s

    def _hung_at_s(self) -> float:
        """When the batch in flight counts as hung: once, for all forks."""
        return float(self._ring.get("progress_at_s")) + self._timeout_s

    def _renew_lock(self) -> None:
        # Ctrl-C inside `with` of the condition, which is written in Python, would leave it taken.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def _run_to_end(self) -> None:
        with contextlib.suppress(at_exit.ScriptEnds):
            self._run()

    def _run(self) -> None:
        with self._own_stream():
            self._work()

    def _own_stream(self) -> contextlib.AbstractContextManager[Any]:
        """On CUDA, a stream for the thread: on the default one its kernels would queue behind the training's."""
        if self._cuda_device is None:
            return contextlib.nullcontext()
        torch.cuda.set_device(self._cuda_device)  # a new thread starts on device 0
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # What the caller queued, such as the weights on their way to the device, comes first.
        stream.wait_stream(torch.cuda.default_stream())
        return torch.cuda.stream(stream)

    def _work(self) -> None:
        while True:
            batch = self._await_work()
            if batch is None:
                return
            self._attempt(batch)

    def _make_first(self) -> None:
        """The first batch, in the caller's thread: CUDA graphs are captured there, before training runs beside it."""
        with self._lock:
            batch = self._missing(self._window.batches_ahead(self._ring.get("turn")))
            if batch is not None:
                self._claim(batch)
        if batch is not None:
            self._attempt(batch)

    def _attempt(self, batch: int) -> None:
        try:
            self._make(batch)
        except BaseException as error:  # whatever it is, the training process has to hear of it
            with self._lock:
                if not self._stopped:
                    self._error, self._error_was_raised = error, False
                    self._ring.fail(failed_text(self._window, self._seed, batch, error))
                    self._changed.notify_all()

    def _await_work(self) -> int | None:
        """The next batch to make; None when there will be no other."""
        with self._lock:
            while not self._stopped:
                batch = self._next()
                if batch is not None:
                    return batch
                quiet_s = self._quiet_until_s - time.monotonic()
                self._changed.wait(quiet_s if quiet_s > 0 else None)
        return None

    def _next(self) -> int | None:
        """The first batch that is missing and may be made now; called by the thread, which holds the lock."""
        rests = self._forking or time.monotonic() < self._quiet_until_s
        if self._error is not None or (rests and not self._waiting):
            return None
        batch = self._missing(self._window.batches_ahead(self._ring.get("turn")))
        if batch is not None:
            self._claim(batch)
        return batch

    def _claim(self, batch: int) -> None:
        forks.stay_first()
        self._maker = threading.get_ident()
        self._ring.set("making", batch)
        self._ring.set("progress_at_s", time.monotonic())

    def _missing(self, batches: npt.NDArray[np.int64]) -> int | None:
        missing = batches[~self._ring.holds(batches)]
        if len(missing):
            return int(missing[0])
        return None if self._rests else _REST

    def _fill(self, turn: int) -> None:
        """Makes all that is missing of a turn, in the caller's thread."""
        since = time.monotonic()
        try:
            while True:
                with self._lock:
                    while self._maker is not None:  # another thread of this process reads too
                        if self._maker == threading.get_ident():
                            raise PoolError(
                                "These samples are being made by the very thread that asks for them: a signal handler, "
                                "or the model itself, reads the pool. Read it elsewhere."
                            )
                        self._changed.wait()
                    self._check_still(turn)
                    batch = self._missing(self._window.batches(turn))
                    if batch is None:
                        return
                    self._claim(batch)
                try:
                    self._make(batch)
                except Exception as error:
                    raise PoolError(failed_text(self._window, self._seed, batch, error)) from error
        finally:
            self._ring.add_wait(since)

    def _make(self, batch: int) -> None:
        since = time.monotonic()
        try:
            if batch == _REST:
                self._supply.rest()
                self._rests = True
                return
            self._rests = not self._supply.rests
            delivery = self._supply.batch(self._window.ids(batch))
            self._look(batch, delivery.samples)
            with self._lock:
                # After a jump to another turn the place may be that of a batch which is needed now.
                if not self._stopped and batch in self._window.batches_ahead(self._ring.get("turn")):
                    self._ring.write(batch, delivery.samples)
                self._ring.count(delivery)
                self._ring.set("fill_s", self._ring.get("fill_s") + time.monotonic() - since)
        finally:
            with self._lock:
                self._maker = None
                self._ring.set("making", -1)
                self._ring.set("progress_at_s", time.monotonic())
                self._changed.notify_all()

    def _look(self, batch: int, samples: Batch) -> None:
        """Warns, once, if the first samples of this pool look alike."""
        # A pool that is moved makes samples again, which are no copies.
        if self._alarm or self._watch.is_over or batch < self._looked:
            return
        self._looked = batch + 1
        self._alarm = self._watch.add(self._window.ids(batch).tolist(), samples)
        if self._alarm:
            warnings.warn(self._alarm, CollapseWarning, stacklevel=2)

    def _check_still(self, turn: int) -> None:
        if self._stopped:
            raise PoolError(CLOSED_TEXT)
        if self._ring.get("turn") != turn:
            raise PoolError(moved_text(self._ring, turn))


def _stop_all() -> None:
    """At exit: nobody needs the batch in flight, and a thread that goes on would crash the interpreter."""
    fillers = [filler for filler in forks.alive() if isinstance(filler, Filler)]
    until = time.monotonic() + _EXIT_S
    for filler in fillers:
        filler.stop()
    are_over = [filler.interrupt(until) for filler in fillers]
    if not all(are_over):
        at_exit.sleep_on_termination()


atexit.register(_stop_all)
