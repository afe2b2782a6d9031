"""`Filler`: makes what a pool's ring lacks, in a thread of its own or in the caller's."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import threading
import time
import weakref

import numpy as np
import numpy.typing as npt

from torchgenaug import devices
from torchgenaug.errors import PoolError
from torchgenaug.pool.making import at_exit
from torchgenaug.pool.making.first_samples import FirstSamples
from torchgenaug.pool.making.gate import ForkGate
from torchgenaug.pool.making.supply import Supply
from torchgenaug.pool.storage.ring import CLOSED, FAILED, RUNNING, SYNCHRONOUS, Ring
from torchgenaug.pool.storage.window import Window
from torchgenaug.pool.texts import CLOSED_TEXT, failed_text, hung_text, moved_text

_EXIT_S = 3.0  # how long the model may stay inside one call of C++ before its thread is given up at exit
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
        self._gate = ForkGate(ring, timeout_s, elsewhere=supply.elsewhere)
        self._error: BaseException | None = None
        self._error_was_raised = False
        self._stopped, self._rests = False, not supply.rests
        self._first_samples = FirstSamples()
        self._thread: threading.Thread | None = None
        self._accelerator = devices.current_number()
        ring.set("status", RUNNING if background else SYNCHRONOUS)
        ring.set("progress_at_s", time.monotonic())
        _fillers[next(_numbers)] = self
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
        with self._gate.lock:
            if not self._error_was_raised:
                self.raise_failure()
            if turn != self._ring.get("turn"):
                self._ring.synchronize()
            self._error, self._error_was_raised = None, False
            self._ring.set("turn", turn)
            self._ring.set("progress_at_s", time.monotonic())
            if self._ring.get("status") == FAILED:
                self._ring.set("status", RUNNING)
            self._gate.changed.notify_all()

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
            with self._gate.lock, self._gate.waiting():
                while not self._ring.holds(batches).all():
                    self.raise_failure()
                    self._check_still(turn)
                    late_s = time.monotonic() - max(since, self._ring.get("progress_at_s")) - self._timeout_s
                    if late_s >= 0:
                        raise PoolError(hung_text(self._ring, self._timeout_s))
                    if not self._thread.is_alive():
                        raise PoolError("The pool's thread is gone. Build a new pool.")
                    self._gate.changed.wait(min(-late_s, 1.0))
        finally:
            self._ring.add_wait(since)

    def stop(self, wait_s: float = 0.0) -> bool:
        """Ends the thread after the batch in flight; says whether it ended within `wait_s`."""
        if os.getpid() != self._owner:
            return True
        with self._gate.lock:
            self._stopped = True
            self._error = None
            self._ring.set("status", CLOSED)
            self._gate.changed.notify_all()
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

    def _run_to_end(self) -> None:
        with contextlib.suppress(at_exit.ScriptEnds):
            self._run()

    def _run(self) -> None:
        # On the main queue its kernels would wait behind the training's.
        with devices.stream_of_its_own(self._accelerator):
            self._work()

    def _work(self) -> None:
        while True:
            batch = self._await_work()
            if batch is None:
                return
            self._attempt(batch)

    def _make_first(self) -> None:
        """The first batch, in the caller's thread: CUDA graphs are captured there, before training runs in parallel."""
        with self._gate.lock:
            batch = self._missing(self._window.batches_ahead(self._ring.get("turn")))
            if batch is not None:
                self._claim(batch)
        if batch is not None:
            self._attempt(batch)

    def _attempt(self, batch: int) -> None:
        try:
            self._make(batch)
        except BaseException as error:  # whatever it is, the training process has to hear of it
            text = failed_text(self._window, self._seed, batch, error)  # not under the lock: it may take seconds
            with self._gate.lock:
                if not self._stopped:
                    self._error, self._error_was_raised = error, False
                    self._ring.fail(text)
                    self._gate.changed.notify_all()

    def _await_work(self) -> int | None:
        """The next batch to make; None when there will be no other."""
        with self._gate.lock:
            while not self._stopped:
                batch = self._next()
                if batch is not None:
                    return batch
                self._gate.wait()
        return None

    def _next(self) -> int | None:
        """The first batch that is missing and may be made now; called by the thread, which holds the lock."""
        if self._error is not None or self._gate.is_shut:
            return None
        batch = self._missing(self._window.batches_ahead(self._ring.get("turn")))
        if batch is not None:
            self._claim(batch)
        return batch

    def _claim(self, batch: int) -> None:
        self._gate.claim()
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
                with self._gate.lock:
                    while self._gate.maker is not None:  # another thread of this process reads too
                        if self._gate.maker == threading.get_ident():
                            raise PoolError(
                                "These samples are being made by the very thread that asks for them: a signal handler, "
                                "or the model itself, reads the pool. Read it elsewhere."
                            )
                        self._gate.changed.wait()
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
            self._first_samples.look(batch, self._window.ids(batch).tolist(), delivery.samples)
            with self._gate.lock:
                # After a jump to another turn the place may be that of a batch which is needed now.
                if not self._stopped and batch in self._window.batches_ahead(self._ring.get("turn")):
                    self._ring.write(batch, delivery.samples)
                self._ring.count(delivery)
                self._ring.set("fill_s", self._ring.get("fill_s") + time.monotonic() - since)
        finally:
            with self._gate.lock:
                self._gate.maker = None
                self._ring.set("making", -1)
                self._ring.set("progress_at_s", time.monotonic())
                self._gate.changed.notify_all()

    def _check_still(self, turn: int) -> None:
        if self._stopped:
            raise PoolError(CLOSED_TEXT)
        if self._ring.get("turn") != turn:
            raise PoolError(moved_text(self._ring, turn))


_numbers = itertools.count()
_fillers: weakref.WeakValueDictionary[int, Filler] = weakref.WeakValueDictionary()


def _stop_all() -> None:
    """At exit: nobody needs the batch in flight, and a thread that goes on would crash the interpreter."""
    # `valuerefs` is a single step of C code: other threads may add to the dictionary meanwhile.
    fillers = [filler for reference in _fillers.valuerefs() if (filler := reference()) is not None]
    until = time.monotonic() + _EXIT_S
    for filler in fillers:
        filler.stop()
    are_over = [filler.interrupt(until) for filler in fillers]
    if not all(are_over):
        at_exit.sleep_on_termination()


atexit.register(_stop_all)
