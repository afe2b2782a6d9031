"""`write_whole`: a file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file beside its place and moves it there: half a file is never seen.

    One of another user is replaced where this user may write its folder; a link is followed, and what is no regular
    file (``/dev/stdout``) is written to.

    Args:
        path: of the file.
        content: all of it.

    Returns:
        The path.

    Raises:
        OSError: the system refuses.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        place.write_bytes(content)
        return Path(path)
    draft = place.with_name(f".{place.name[:100]}.{secrets.token_hex(4)}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(draft, place)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    return Path(path)
