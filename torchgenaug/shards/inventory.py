"""Which shards of a plan are missing, and which files are damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Set
from pathlib import Path

from torchgenaug.shards.folder import list_shards
from torchgenaug.shards.format import Manifest

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK_BYTES, _END_AT = 48, 28


class Damage:
    """The damaged files of a folder, found once; and what is missing, looked up again and again.

    A file that replaces a damaged one has the same name, if the model is deterministic. It counts as new by its inode,
    so that any process sees which damage another one has repaired.

    Args:
        folder: the shard folder.
        manifest: its manifest.
        find: (folder, manifest) → shard index → names of damaged files.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, find: Callable[[Path, Manifest], dict[int, list[str]]]
    ) -> None:
        self._folder, self._manifest = folder, manifest
        # Looked at before they are read: what is replaced meanwhile is found intact, or to have another inode.
        inodes = {name: _inode(folder / name) for names in list_shards(folder).values() for name in names}
        found = find(folder, manifest)
        self._broken = {index: {name: inodes.get(name) for name in names} for index, names in found.items()}

    def to_make(self) -> list[int]:
        """The shards of which no intact file is there."""
        shards = list_shards(self._folder)
        return [k for k in range(self._manifest.num_shards) if not self._intact(k, shards.get(k, []))]

    def unsettled(self) -> list[int]:
        """The shards of which no file is there, or a damaged one: empty when every process has done its part."""
        shards = list_shards(self._folder)
        return [
            k
            for k in range(self._manifest.num_shards)
            if k not in shards or (k in self._broken and self._intact(k, shards[k]) != shards[k])
        ]

    def clear(self, owned: Callable[[int], bool], committed: Set[str]) -> None:
        """Removes the damaged files of the shards that are `owned`, but for the names that were just `committed`."""
        for index, names in self._broken.items():
            for name in sorted(names.keys() - committed):
                # A deterministic model replaced the file under its own name; otherwise an intact one lies next to it.
                if owned(index) and not self._intact(index, [name]):
                    (self._folder / name).unlink(missing_ok=True)

    def _intact(self, index: int, names: list[str]) -> list[str]:
        broken = self._broken.get(index, {})
        return [name for name in names if name not in broken or _inode(self._folder / name) != broken[name]]


def truncated_shards(folder: Path, manifest: Manifest) -> dict[int, list[str]]:
    """Shard index → names of files too small for what they hold: the damage that shows without reading them."""
    found: dict[int, list[str]] = {}
    for index, names in list_shards(folder).items():
        rows = 0 if manifest.compression else len(manifest.shard_range(index)) * manifest.row_bytes()
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size = (folder / name).stat().st_size
                if size < rows or size < _stated_size(folder / name):
                    found.setdefault(index, []).append(name)
    return found


def _stated_size(path: Path) -> int:
    """The end of an HDF5 file as its superblock (version 2 or 3, which the writer makes) states it."""
    try:
        with path.open("rb") as file:
            header = file.read(_SUPERBLOCK_BYTES)
    except PermissionError:  # another user's: what may not be read is left alone
        return 1
    short = len(header) < _SUPERBLOCK_BYTES or not header.startswith(_SIGNATURE)
    return 1 << 62 if short else int.from_bytes(header[_END_AT : _END_AT + 8], "little")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
