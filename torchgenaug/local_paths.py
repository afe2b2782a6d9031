"""Paths that users write: relative ones, ``~``, variables of the environment, a file named in place of its folder."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path


def local_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path; ``~`` and ``$NAME`` are replaced where nothing of that very name exists.

    Absolute, so that it stays the same place where the process, or one that it is sent to, changes its working
    directory, as launchers of training runs do.
    """
    return expanded(path).absolute()


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ``~`` and ``$NAME`` replaced, where nothing of that very name exists."""
    literal = Path(path)
    return literal if os.path.lexists(literal) else Path(os.path.expandvars(literal)).expanduser()


def folder_of(path: str | os.PathLike[str], names: Collection[str]) -> Path:
    """`local_path`, or its folder where it is a file of one of these names, which only such folders hold."""
    found = local_path(path)
    return found.parent if found.name in names and found.is_file() else found


__all__ = ["expanded", "folder_of", "local_path"]
