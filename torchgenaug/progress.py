"""Progress as one line a minute, for logs, where the characters that redraw a bar would be noise.

`minute_lines` (a function to call) · `counted` (numbers, with a bar on a terminal).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

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


def counted(count: int, verb: str, unit: str) -> Iterator[int]:
    """0 to count - 1, with a bar where it takes more than three seconds on a terminal; in a log, one line a minute.

    Args:
        count: how many.
        verb: begins the line: ``"read"``.
        unit: what is counted, in the plural: ``"images"``.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(range(count), verb, unit=f" {unit}", delay=3, leave=False, dynamic_ncols=True)
        return
    show = minute_lines(verb, unit)
    for number in range(count):
        yield number
        show(number + 1, count)


def duration(seconds: float) -> str:
    """A time in the unit that people would use for it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
