"""The shard folder: what lies in it.

The listing is the journal: a shard exists if and only if a file with its name does, and the rename that gives it the
name is the commit; see `temporary`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ShardCorruptError, ShardError, ShardIncompleteError, ShardNotFoundError
from torchgenaug.shards.cache import is_cache
from torchgenaug.shards.format import MANIFEST_NAME, Manifest, parse_shard_name

MAX_MANIFEST_BYTES = 32 << 20


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        ShardNotFoundError: no such folder, or no manifest in it.
        ShardCorruptError: a manifest that is none, or not a regular file.
        ShardVersionError: a newer format.
        ShardError: a manifest that this user may not read.
    """
    path = folder / MANIFEST_NAME
    try:
        status = path.stat()  # of what a link leads to: DVC, git-annex and hub caches keep files elsewhere
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "holds no manifest.json" if folder.is_dir() else "does not exist"
        raise ShardNotFoundError(
            f"`path` must be a folder that render_shards wrote, got {str(folder)!r}, which {what}. "
            "Make one with: torchgenaug render SYNTHESIZER --out DIR --count N"
        ) from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ShardCorruptError(f"{path} must be a regular file, got a link that leads in a circle.") from error
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MANIFEST_BYTES:
        raise ShardCorruptError(
            f"{path} must be a regular file, or a link to one, of at most {MAX_MANIFEST_BYTES >> 20} MiB. Nothing was "
            "read."
        )
    try:
        content = path.read_bytes()
    except PermissionError as error:
        raise ShardError(
            f"{path} must be readable by this user, got {error.strerror}. Nothing was read or rendered. Its owner can "
            f"allow it: chmod -R g+rwX {folder}"
        ) from error
    return Manifest.from_bytes(content, where=str(path))


def list_shards(folder: Path) -> dict[int, list[str]]:
    """Shard index → file names, sorted. More than one only if a model that is not deterministic rendered it twice.

    Raises:
        ShardCorruptError: a shard's name belongs to something that is neither a regular file nor a link to one.
    """
    shards: dict[int, list[str]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            parsed = parse_shard_name(entry.name)
            if parsed is None:
                continue
            if not _leads_to_file(entry):
                raise ShardCorruptError(
                    f"{entry.path} must be a regular file, or a link to one, got something else, or a link that leads "
                    "nowhere. It was not opened. Remove it, or bring back what it links to."
                )
            shards.setdefault(parsed[0], []).append(entry.name)
    for names in shards.values():
        names.sort()
    return shards


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads in a circle
        return False


def file_digest(file: FileIO) -> str:
    """sha256 of an open file's content, in hexadecimal."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def some_ranges(indices: Iterable[int], *, unit: int = 1, end: int | None = None) -> str:
    """Sorted indices as text, ``0-3, 7``; with `unit`, the ids in shards of that size (below `end`)."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1][1] = index + 1
        else:
            runs.append([index, index + 1])
    texts = []
    for start, stop in runs[:8]:
        first, last = start * unit, stop * unit - 1
        last = last if end is None else min(last, end - 1)
        texts.append(f"{first}-{last}" if last > first else f"{first}")
    return ", ".join(texts) + (f", … ({len(runs)} ranges)" if len(runs) > 8 else "")


def shard_digests(folder: Path, manifest: Manifest) -> npt.NDArray[np.uint8]:
    """The sha256 of each shard, from the listing of the folder: (num_shards, 32) uint8.

    Raises:
        ShardIncompleteError: shards are missing.
    """
    shards = list_shards(folder)
    there = sum(index < manifest.num_shards for index in shards)
    if there < manifest.num_shards:
        # A generator: a manifest of a few bytes may claim any number of shards.
        missing = (index for index in range(manifest.num_shards) if index not in shards)
        ids = some_ranges(missing, unit=manifest.shard_size, end=manifest.count)
        remedy = (
            "It is the local copy of a remote folder: open the URL again to fetch them."
            if is_cache(folder)
            else "Run the same render once more to make them: torchgenaug render SYNTHESIZER --out "
            f"{folder} --count {manifest.count}, or render_shards(...)."
        )
        raise ShardIncompleteError(
            f"{folder} must hold {manifest.num_shards} shards, got {there}: ids {ids} are not there (yet). {remedy}"
        )
    parsed = (parse_shard_name(shards[index][0]) for index in range(manifest.num_shards))
    digests = b"".join(bytes.fromhex(digest) for _, digest in filter(None, parsed))
    return np.frombuffer(digests, np.uint8).reshape(-1, 32)
