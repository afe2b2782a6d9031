"""Shard folders on object storage or a hub, through fsspec: fetched into a local cache, checked on arrival."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchgenaug.errors import (
    ConfigurationError,
    MissingExtraError,
    ShardCorruptError,
    ShardError,
    ShardIncompleteError,
    ShardNotFoundError,
)
from torchgenaug.shards.folder import MAX_MANIFEST_BYTES, TemporaryFile, remove_abandoned, some_ranges
from torchgenaug.shards.format import MANIFEST_NAME, Manifest, parse_shard_name

_CACHE_VARIABLE = "TORCHGENAUG_CACHE"
_BLOCK = 8 << 20  # bytes asked for at once
_LOCK_NAME = ".torchgenaug-fetching"


def fetch_remote(
    url: str, *, cache: str | os.PathLike[str] | None = None, storage_options: Mapping[str, Any] | None = None
) -> Path:
    """The local copy of a shard folder, as `open_remote` explains."""
    system, root = _file_system(url, storage_options)
    content = _manifest_bytes(system, root, url)
    manifest = Manifest.from_bytes(content, where=f"{url.rstrip('/')}/{MANIFEST_NAME}")
    names = _shard_names(system, root, url, manifest)
    folder = _cache_root(cache) / hashlib.sha256(url.encode() + b"\0" + content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    # Looked at before the lock is asked for: a complete cache may be read-only.
    if not _complete(folder, names):
        with _one_at_a_time(folder):
            remove_abandoned(folder)
            _fetch(system, root, url, names, folder)
            # Last, so that a folder with a manifest is a whole one.
            _store(folder, MANIFEST_NAME, content)
    return folder


def _file_system(url: str, storage_options: Mapping[str, Any] | None) -> tuple[Any, str]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url, **(storage_options or {}))
    except ImportError as error:
        raise MissingExtraError(f"`url` {url!r} needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise ConfigurationError(
            f"`url` must have a protocol that fsspec knows, got {url!r}: {error}. See fsspec.available_protocols()."
        ) from error
    return system, str(root).rstrip("/")


def _manifest_bytes(system: Any, root: str, url: str) -> bytes:
    try:
        with system.open(f"{root}/{MANIFEST_NAME}", "rb") as file:
            content: bytes = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError as error:
        raise ShardNotFoundError(
            f"`url` must be a folder that render_shards wrote, got {url!r}, which holds no {MANIFEST_NAME}. Copy the "
            "whole folder there."
        ) from error
    if len(content) > MAX_MANIFEST_BYTES:
        raise ShardCorruptError(
            f"{url}/{MANIFEST_NAME} must have at most {MAX_MANIFEST_BYTES >> 20} MiB. It was not used."
        )
    return content


def _shard_names(system: Any, root: str, url: str, manifest: Manifest) -> dict[str, int]:
    """File name → bytes, of one file per shard of the plan."""
    # Only the last part of a path counts, and only if it is a shard's name: nothing that is listed can lead elsewhere.
    found: dict[int, tuple[str, int]] = {}
    system.invalidate_cache(root)  # some file systems remember listings
    for entry in sorted(system.ls(root, detail=True), key=lambda entry: str(entry["name"])):
        name = str(entry["name"]).rpartition("/")[2]
        parsed = parse_shard_name(name)
        if parsed is not None and entry["type"] == "file":
            found.setdefault(parsed[0], (name, int(entry["size"])))
    missing = [index for index in range(manifest.num_shards) if index not in found]
    if missing:
        raise ShardIncompleteError(
            f"{url} must hold {manifest.num_shards} shards, got {manifest.num_shards - len(missing)}: ids "
            f"{some_ranges(missing, unit=manifest.shard_size, end=manifest.count)} are not there. Nothing was fetched. "
            "Finish the render, and copy the whole folder."
        )
    return dict(found[index] for index in range(manifest.num_shards))


def _cache_root(cache: str | os.PathLike[str] | None) -> Path:
    if cache is not None:
        return Path(cache)
    return Path(os.environ.get(_CACHE_VARIABLE) or "~/.cache/torchgenaug").expanduser()


def _complete(folder: Path, names: Mapping[str, int]) -> bool:
    return (folder / MANIFEST_NAME).exists() and not _absent(folder, names)


def _absent(folder: Path, names: Mapping[str, int]) -> list[str]:
    there = set(os.listdir(folder))
    return [name for name in names if name not in there]


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Waits for whoever fetches into `folder`. The lock dies with its process."""
    descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        # Without locks the work is done more than once, but never wrongly: each file is renamed into place.
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fetch(system: Any, root: str, url: str, names: Mapping[str, int], folder: Path) -> None:
    absent = _absent(folder, names)
    needed, free = sum(names[name] for name in absent), shutil.disk_usage(folder).free
    if needed > free:
        raise ShardError(
            f"The disk of {str(folder)!r} must have {needed:,} bytes free for {len(absent)} shards of {url}, got "
            f"{free:,}. Nothing was fetched. Free some space, or give another `cache`."
        )
    for name in absent:
        temporary = TemporaryFile(folder)
        try:
            digest, size = hashlib.sha256(), 0
            with system.open(f"{root}/{name}", "rb") as source, open(temporary.descriptor, "wb", closefd=False) as file:
                while size <= names[name] and (block := source.read(_BLOCK)):
                    digest.update(block)
                    file.write(block)
                    size += len(block)
            parsed = parse_shard_name(name)
            if parsed is None or digest.hexdigest() != parsed[1]:
                raise ShardCorruptError(
                    f"{url}/{name} must have the sha256 of its name, got {digest.hexdigest()} after {size:,} bytes. It "
                    "was not kept. Try again; if that does not help, copy the file there once more."
                )
            temporary.commit(name)
        finally:
            temporary.discard()


def _store(folder: Path, name: str, content: bytes) -> None:
    temporary = TemporaryFile(folder)
    try:
        with open(temporary.descriptor, "wb", closefd=False) as file:
            file.write(content)
        temporary.commit(name)
    finally:
        temporary.discard()
