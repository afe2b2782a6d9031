"""Ctrl-C and SIGTERM as a flag that the training loop checks after each step."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Stop:
    """Whether the run should end."""

    requested = False
    signal: int | None = None


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM end the run after the step in flight; a second Ctrl-C at once."""
    stop = Stop()
    previous: dict[signal.Signals, Any] = {}

    def ask(number: int, _: Any) -> None:
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.requested, stop.signal = True, int(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # not in the main thread: then nobody sends signals here
            previous[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
