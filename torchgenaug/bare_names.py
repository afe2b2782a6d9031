"""Removes folders from names, so that shared files state nothing about the machine or its user."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from typing import Any

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def bare_name(name: str) -> str:
    """The last part of a path; other names, such as ``digits`` or ``package.module:factory``, as they are."""
    if _is_absolute(name) or "/" in name or "\\" in name:
        parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".", "..", "~")]
        return parts[-1] if parts else "data"
    return name


def without_places(value: Any) -> Any:
    """A JSON value in which absolute paths are relative to the folder that those of one list have in common.

    Used for what a saved file says about its training data: file names stay distinct, and neither the user nor the
    machine is named.
    """
    if isinstance(value, Mapping):
        return {key: without_places(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        paths = [_slashed(part) for part in value if isinstance(part, str) and _is_absolute(part)]
        common = posixpath.commonpath([posixpath.dirname(path) for path in paths]) if paths and _alike(paths) else ""
        return [
            _below(part, common) if isinstance(part, str) and _is_absolute(part) else without_places(part)
            for part in value
        ]
    return bare_name(value) if isinstance(value, str) and _is_absolute(value) else value


def _below(path: str, folder: str) -> str:
    return posixpath.relpath(_slashed(path), folder) if folder else bare_name(path)


def _is_absolute(name: str) -> bool:
    return name.startswith(("/", "\\\\", "~", "file:")) or os.path.isabs(name) or _DRIVE.match(name) is not None


def _slashed(path: str) -> str:
    return posixpath.normpath(path.removeprefix("file://").replace("\\", "/"))


def _alike(paths: list[str]) -> bool:
    return len({path.startswith("/") for path in paths}) == 1
