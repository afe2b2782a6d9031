"""Names without the place where something lies: nothing of a machine or its user goes into files that are shared."""

from __future__ import annotations

import re

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def bare_name(name: str) -> str:
    """The last part of a path; other names, such as ``digits`` or ``package.module:factory``, as they are."""
    if _DRIVE.match(name) or "/" in name or "\\" in name or name.startswith("~"):
        parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".", "..")]
        return parts[-1] if parts else "data"
    return name
