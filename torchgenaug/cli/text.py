"""Text from files, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with all that a terminal would obey, such as escape sequences, written out as Python does."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else _written_out(letter) for letter in text)


def _written_out(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
