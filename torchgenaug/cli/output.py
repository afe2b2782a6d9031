"""What commands print: lines that are wrapped at the width of a terminal only, and numbers with their nouns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_NEVER_WRAPPED = 100_000  # columns


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that wraps lines and cells at the width of a terminal, and never where there is none."""
    from rich.console import Console

    console = Console(stderr=stderr, quiet=quiet)
    if not console.is_terminal:
        console.width = _NEVER_WRAPPED
    return console


def say(*lines: str, stderr: bool = False) -> None:
    """Prints lines as they are: a path in them is never broken, and brackets are no markup."""
    console = open_console(stderr=stderr)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """``1 sample``, ``20,000 samples``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
