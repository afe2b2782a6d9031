"""Shard folders on object storage or a hub, through fsspec: fetched into a local cache, checked on arrival."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from torchgenaug.errors import (
    ConfigurationError,
    MissingExtraError,
    ShardCorruptError,
    ShardError,
    ShardIncompleteError,
    ShardNotFoundError,
    TorchGenAugError,
    describe_error,
)
from torchgenaug.shards.cache import cache_root, holds, not_a_file, one_at_a_time, private_folder
from torchgenaug.shards.folder import MAX_MANIFEST_BYTES, some_ranges
from torchgenaug.shards.format import MANIFEST_NAME, Manifest, parse_shard_name
from torchgenaug.shards.temporary import TemporaryFile, remove_abandoned

_BLOCK = 8 << 20  # bytes requested at once
_SECRETS = re.compile(
    r"""(?<=://)[^/\s'"]+(?=@)"""  # user and password, which may hold an @
    r"""|(?<=://)[^/\s'":]*:(?!\d{1,5}/)[^\s'"]*/[^\s'"]*(?=@)"""  # a password with a slash, which should be encoded
    r"""|(?<=[?&])([^=&#\s'"]+)=(?:[^&#\s'"]|['"](?=[\w%]))*"""  # the value of a query
)


def redacted(text: str) -> str:
    """A text without what URLs in it keep secret: users and passwords, and the values of a query."""
    return _SECRETS.sub(lambda match: f"{match[1]}=***" if match[1] else "***", text)


def fetch_remote(
    url: str, *, cache: str | os.PathLike[str] | None = None, storage_options: Mapping[str, Any] | None = None
) -> Path:
    """The local copy of a shard folder, as `open_remote` explains."""
    shown = redacted(url)
    with _named_errors(shown):
        system, root = _file_system(url, storage_options)
        content = _manifest_bytes(system, root, shown)
        manifest = Manifest.from_bytes(content, where=f"{shown.rstrip('/')}/{MANIFEST_NAME}")
        names = _shard_names(system, root, shown, manifest)
    folder = private_folder(cache_root(cache), hashlib.sha256(url.encode() + b"\0" + content).hexdigest())
    # Looked at before the lock is taken: a complete cache may be read-only.
    if not _complete(folder, names, content):
        with one_at_a_time(folder), _named_errors(shown):
            remove_abandoned(folder)
            _fetch(system, root, shown, names, folder, manifest)
            # Last, so that a folder with a manifest is a whole one.
            _store(folder, MANIFEST_NAME, content)
    return folder


@contextlib.contextmanager
def _named_errors(shown: str) -> Iterator[None]:
    """Gives what a file system raises the name of the URL, and takes the secrets out of its text."""
    try:
        yield
    except TorchGenAugError:
        raise
    except Exception as error:
        text = describe_error(error)
        if isinstance(error, OSError) and redacted(text) == text:
            error.add_note(f"While {shown} was fetched. What has arrived stays; open it again to go on.")
            raise
        # The foreign exception is not chained: its own text would be printed, too.
        raise ShardError(
            f"{shown} must be readable, got {redacted(text)}. What has arrived stays; try again."
        ) from None


def _file_system(url: str, storage_options: Mapping[str, Any] | None) -> tuple[Any, str]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url, **(storage_options or {}))
    except ImportError as error:
        raise MissingExtraError(
            f"`url` {redacted(url)!r} needs a package that is not installed: {redacted(str(error))}"
        ) from None
    except ValueError as error:
        raise ConfigurationError(
            f"`url` must have a protocol that fsspec knows, got {redacted(url)!r}: {redacted(str(error))}. See "
            "fsspec.available_protocols()."
        ) from None
    return system, str(root).rstrip("/")


def _manifest_bytes(system: Any, root: str, url: str) -> bytes:
    try:
        with system.open(f"{root}/{MANIFEST_NAME}", "rb") as file:
            content: bytes = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise ShardNotFoundError(
            f"`url` must be a folder that render_shards wrote, got {url!r}, which holds no {MANIFEST_NAME}. Copy the "
            "whole folder there."
        ) from None
    if len(content) > MAX_MANIFEST_BYTES:
        raise ShardCorruptError(
            f"{url}/{MANIFEST_NAME} must have at most {MAX_MANIFEST_BYTES >> 20} MiB. It was not used."
        )
    return content


def _shard_names(system: Any, root: str, url: str, manifest: Manifest) -> dict[str, int | None]:
    """File name → bytes (None where a listing does not say), of one file per shard of the plan."""
    # Only the last part of a path counts, and only if it is a shard's name: nothing that is listed can lead elsewhere.
    found: dict[int, tuple[str, int | None]] = {}
    system.invalidate_cache(root)  # some file systems remember listings
    for entry in sorted(system.ls(root, detail=True), key=lambda entry: str(entry["name"])):
        # A plain web server lists links, percent-encoded, and no sizes.
        name = unquote(str(entry["name"]).rpartition("/")[2].partition("?")[0])
        parsed, size = parse_shard_name(name), entry.get("size")
        if parsed is not None and parsed[0] < manifest.num_shards and entry.get("type") == "file":
            found.setdefault(parsed[0], (name, None if size is None else int(size)))
    if len(found) < manifest.num_shards:
        missing = (index for index in range(manifest.num_shards) if index not in found)
        raise ShardIncompleteError(
            f"{url} must hold {manifest.num_shards} shards, got {len(found)}: ids "
            f"{some_ranges(missing, unit=manifest.shard_size, end=manifest.count)} are not there. Nothing was fetched. "
            "Finish the render, and copy the whole folder."
        )
    return dict(found[index] for index in range(manifest.num_shards))


def _complete(folder: Path, names: Mapping[str, int | None], manifest: bytes) -> bool:
    return holds(folder, MANIFEST_NAME, manifest) and not _absent(folder, names)


def _absent(folder: Path, names: Mapping[str, int | None]) -> list[str]:
    """The files that are not there, or not of the size that they have at the URL."""
    there = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in names and entry.is_file(follow_symlinks=False):
                there[entry.name] = entry.stat(follow_symlinks=False).st_size
    return [name for name, size in names.items() if name not in there or (size is not None and there[name] != size)]


def _fetch(system: Any, root: str, url: str, names: Mapping[str, int | None], folder: Path, manifest: Manifest) -> None:
    absent = _absent(folder, names)
    needed, free = sum(names[name] or 0 for name in absent), shutil.disk_usage(folder).free
    if needed > free:
        raise ShardError(
            f"The disk of {str(folder)!r} must have {needed:,} bytes free for {len(absent)} shards of {url}, got "
            f"{free:,}. Nothing was fetched. Free some space, or give another `cache`."
        )
    for name in absent:
        temporary = TemporaryFile(folder)
        try:
            digest, size = hashlib.sha256(), 0
            most = names[name]
            most = manifest.most_bytes() if most is None else most
            with system.open(f"{root}/{name}", "rb") as source, open(temporary.descriptor, "wb", closefd=False) as file:
                while size <= most and (block := source.read(_BLOCK)):
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
        except IsADirectoryError as error:
            raise not_a_file(folder / name) from error
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
