"""Checksums of small JSON files, each an entry of the file itself: ``sha256`` of the other entries."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ENTRY = "sha256"


def with_checksum(entries: Mapping[str, Any]) -> dict[str, Any]:
    """`entries`, JSON values, with the sha256 of them all as the last one."""
    return {**entries, _ENTRY: _digest(entries)}


def fits_checksum(entries: Mapping[str, Any]) -> bool:
    """Whether `entries` are those that their checksum was computed of; True if they have none, as in older versions.

    Spaces and the order of entries do not matter: they change nothing.
    """
    return _ENTRY not in entries or entries[_ENTRY] == _digest(entries)


def read_entries(path: Path, max_bytes: int = 1 << 30) -> dict[str, Any]:
    """The entries of a JSON file without their checksum, which must fit if there is one.

    Args:
        path: a regular file, or a link to one.
        max_bytes: refused above this, before anything is read.

    Raises:
        OSError: not readable.
        ValueError: a named pipe or another thing that is no regular file, too large, no JSON object, or damaged.
    """
    # Without O_NONBLOCK, opening a named pipe waits until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > max_bytes:
            raise ValueError(f"no regular file of at most {max_bytes:,} bytes")
        content = file.read(about.st_size)
    try:
        entries = json.loads(content.decode())
    except RecursionError:
        raise ValueError("deeper nested than any such file") from None
    if not isinstance(entries, dict):
        raise ValueError("no JSON object")
    if not fits_checksum(entries):
        raise ValueError("entries that do not fit their sha256: it was damaged, or edited")
    entries.pop(_ENTRY, None)
    return entries


def _digest(entries: Mapping[str, Any]) -> str:
    others = {name: value for name, value in entries.items() if name != _ENTRY}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()
