"""`minute_lines`: progress as one line a minute, for logs, where the characters that redraw a bar would be noise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_SECONDS_BETWEEN_LINES = 60.0


def minute_lines(verb: str, unit: str, *, clock: Callable[[], float] = time.monotonic) -> Callable[[int, int], None]:
    """Returns a progress function of (done, total) that writes at most one line a minute to the error output.

    Args:
        verb: begins the line: ``"trained"``.
        unit: what is counted, in the plural: ``"steps"``.
        clock: time in seconds.
    """
    began = last = clock()
    first: int | None = None

    def show(done: int, total: int) -> None:
        nonlocal last, first
        first = done if first is None else first
        now = clock()
        if now - last < _SECONDS_BETWEEN_LINES or done >= total:
            return
        last = now
        left = f", about {duration((now - began) / (done - first) * (total - done))} left" if done > first else ""
        print(f"{verb} {done:,} of {total:,} {unit}{left}", file=sys.stderr, flush=True)

    return show


def duration(seconds: float) -> str:
    """A time in the unit that people would use for it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
