"""Paths that users write: relative ones, ``~``, variables of the environment, a file named in place of its folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path

from torchgenaug.errors import ConfigurationError


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


def check_place(path: Path, name: str = "out") -> None:
    """Raises `ConfigurationError` where something lies in the place of a folder, or of one above it; writes nothing.

    Args:
        path: of the folder, there or not.
        name: of the parameter, for the message.
    """
    for place in (path, *path.parents):
        if os.path.lexists(place):
            if not place.is_dir():
                raise _no_folder(path, name, f"{place} is no folder")
            return


def make_folder(path: Path, name: str = "out") -> Path:
    """The folder, made with those above it where they are missing.

    Raises:
        ConfigurationError: something else lies there, or the system knows no such place.
    """
    check_place(path, name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            raise
        raise _no_folder(path, name, str(error.strerror)) from error
    return path


def _no_folder(path: Path, name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"`{name}` must be a folder or the place of a new one, got {str(path)!r}: {reason}. Nothing was written. Name "
        "another place."
    )


__all__ = ["check_place", "expanded", "folder_of", "local_path", "make_folder"]
