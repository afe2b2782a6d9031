"""What commands print: lines that are wrapped at the width of a terminal only, and numbers with their nouns."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from torchgenaug.cli.text import printable

if TYPE_CHECKING:
    from rich.console import Console

_NEVER_WRAPPED = 100_000  # columns


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that wraps lines and cells at the width of a terminal, and never where there is none."""
    from rich.console import Console

    console = Console(stderr=stderr, quiet=quiet, emoji=False)  # ":cat:" may be part of a path
    if not console.is_terminal:
        console.width = _NEVER_WRAPPED
    return console


def say(*lines: str, stderr: bool = False) -> None:
    """Prints lines as they are: a path in them is never broken, and brackets are no markup.

    What a terminal would obey is written out: names of files and texts of models come from anywhere.
    """
    console = open_console(stderr=stderr)
    for line in lines:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """``1 sample``, ``20,000 samples``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def num_bytes(size: float) -> str:
    """A number of bytes in the unit that people would use for it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


@contextmanager
def stoppable(message: str = "Interrupted.") -> Iterator[None]:
    """Ctrl-C and SIGTERM end a command tidily: what is complete stays, and the way to go on is printed."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # Only the main thread may set handlers; elsewhere SIGTERM keeps its meaning.
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        yield
    except KeyboardInterrupt as error:
        # Here, because typer turns the interrupt into a bare exit status.
        say(" ".join([message, *getattr(error, "__notes__", ())]), stderr=True)
        raise typer.Exit(130) from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
