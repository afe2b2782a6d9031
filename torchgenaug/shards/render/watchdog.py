"""The watchdog of a render: says which samples a model hangs at, and on request gives up on it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from types import TracebackType

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError, ShardError

NOTICE_S = 600.0
"""After so long a batch is talked about, whether or not there is a limit."""
_GRACE_S = 10.0
_EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h


class Watchdog:
    """A context in which no batch may take longer than `timeout_s`; without it, long ones are only reported.

    Where the limit is passed, the model is interrupted as by Ctrl-C and `ShardError` is raised, with ids and seeds. A
    model that does not react within 10 s (one that hangs in a driver) takes its process with it, status 70: what is
    committed stays, and other ranks notice. Use it in the main thread; elsewhere a model cannot be interrupted.

    Args:
        timeout_s: seconds that a batch may take; None for no limit.

    Raises:
        ConfigurationError: `timeout_s` is not a positive number.
    """

    def __init__(self, timeout_s: float | None) -> None:
        if timeout_s is not None and not (isinstance(timeout_s, int | float) and timeout_s > 0):
            raise ConfigurationError(
                f"`timeout_s` must be a positive number of seconds or None, got {timeout_s!r}. Nothing was rendered."
            )
        self._timeout_s = timeout_s
        self._watched = threading.get_ident()
        self._in_main = threading.current_thread() is threading.main_thread()
        self._batch: tuple[float, range, npt.NDArray[np.uint64]] | None = None
        self._expired = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="torchgenaug-watchdog", daemon=True)

    def begin(self, ids: range, seeds: npt.NDArray[np.uint64]) -> None:
        """The model is about to generate these samples."""
        self._batch = (time.monotonic(), ids, seeds)

    def end(self) -> None:
        """It has answered."""
        self._batch = None

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batch = None
        self._stop.set()
        self._thread.join()
        if self._expired and isinstance(error, KeyboardInterrupt):
            raise ShardError(self._expired) from error

    def _run(self) -> None:
        reported: object = None
        limit = NOTICE_S if self._timeout_s is None else self._timeout_s
        while not self._stop.wait(min(1.0, limit / 4)):
            batch = self._batch
            if batch is None:
                continue
            waited = time.monotonic() - batch[0]
            # Also after the notice: a limit beyond it still counts.
            if self._timeout_s is not None and waited >= self._timeout_s and self._in_main:
                self._interrupt(batch)
                return
            if batch is not reported and waited >= min(limit, NOTICE_S):
                reported = batch
                sys.stderr.write(f"{self._text(batch)} It is waited for; {self._where()}\n")

    def _interrupt(self, batch: tuple[float, range, npt.NDArray[np.uint64]]) -> None:
        self._expired = f"{self._text(batch)} It was interrupted: `timeout_s` is {self._timeout_s:g}."
        where = self._where()
        signal.pthread_kill(self._watched, signal.SIGINT)
        if not self._stop.wait(_GRACE_S):
            sys.stderr.write(
                f"{self._expired} It did not react, so this process ends; {where}\n"
                "What is committed stays. Run the same render again to make the rest.\n"
            )
            sys.stderr.flush()
            os._exit(_EXIT_STATUS)

    def _text(self, batch: tuple[float, range, npt.NDArray[np.uint64]]) -> str:
        began, ids, seeds = batch
        shown = ", ".join(map(str, seeds[:4].tolist())) + (", …" if len(seeds) > 4 else "")
        return (
            f"The synthesizer has not returned samples {ids.start} to {ids.stop - 1} (seeds {shown}) for "
            f"{time.monotonic() - began:.0f} s."
        )

    def _where(self) -> str:
        frame = sys._current_frames().get(self._watched)
        place = traceback.extract_stack(frame)[-1] if frame is not None else None
        return "its place is not known." if place is None else f"it is at {place.filename}:{place.lineno}."
