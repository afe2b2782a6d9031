"""`verify_shards`: reads everything, and says which files and ids are damaged or missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torchgenaug.errors import ShardCorruptError
from torchgenaug.local_paths import folder_of
from torchgenaug.shards.cache import is_cache
from torchgenaug.shards.folder import list_shards, read_manifest, some_ranges
from torchgenaug.shards.format import MANIFEST_NAME, MAX_SAMPLE_BYTES, Manifest
from torchgenaug.shards.read.content import ShardFault, on_network
from torchgenaug.shards.read.opened import OpenShard
from torchgenaug.shards.read.whole_shard import wrong_content


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What `verify_shards` found.

    Attributes:
        path: the folder.
        manifest: its manifest.
        num_bytes: bytes read.
        damaged: file name → what is wrong with it.
        damaged_shards: indices of shards of which no intact file is there.
        missing_shards: indices of shards of which no file is there.
    """

    path: Path
    manifest: Manifest
    num_bytes: int
    damaged: dict[str, str]
    damaged_shards: tuple[int, ...]
    missing_shards: tuple[int, ...]

    @property
    def ok(self) -> bool:
        """Whether every sample of the plan is there and intact, and nothing damaged lies next to it."""
        return not self.damaged and not self.missing_shards

    @property
    def bad_ids(self) -> list[range]:
        """Which ids must be rendered again, one range per shard."""
        return [self.manifest.shard_range(index) for index in sorted({*self.damaged_shards, *self.missing_shards})]

    @property
    def next_step(self) -> str:
        """What to do about it; empty if all is well."""
        return next_step(self.path, damaged=bool(self.damaged), missing=bool(self.missing_shards))

    def __str__(self) -> str:
        manifest = self.manifest
        count, shards = manifest.count, manifest.num_shards
        lines = [
            f"{self.path}: {count} sample{'s' * (count != 1)} in {shards} shard{'s' * (shards != 1)}, "
            f"{self.num_bytes:,} bytes read"
        ]
        lines += [f"damaged: {name}: {reason}" for name, reason in self.damaged.items()]
        for what, indices in (("damaged", self.damaged_shards), ("missing", self.missing_shards)):
            if indices:
                lines.append(f"{what} ids: {some_ranges(indices, unit=manifest.shard_size, end=manifest.count)}")
        lines.append(self.next_step or "everything is as it was rendered")
        return "\n".join(lines)


def next_step(folder: Path, *, damaged: bool, missing: bool) -> str:
    """What to do with a folder that has damaged files or lacks shards; empty if neither."""
    if is_cache(folder) and (damaged or missing):
        first = "delete the damaged files and " if damaged else ""
        return f"{first}open the URL again: this is the local copy of a remote folder, and what is missing is fetched"
    if damaged:
        return "run the same render command with --repair: it checks every shard and renders what is damaged or missing"
    return "run the same render command again: it renders what is missing" if missing else ""


def verify_shards(
    path: str | os.PathLike[str],
    *,
    max_sample_bytes: int = MAX_SAMPLE_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> ShardReport:
    """Compares every file of a shard folder with the sha256 in its name, and checks the structure of the intact ones.

    Args:
        path: a shard folder, finished or not.
        max_sample_bytes: refuse a folder whose samples take more memory than this, as `ShardSource` does.
        progress: called with (files read, files to read).

    Returns:
        What is damaged or missing. Damage does not raise.

    Raises:
        ConfigurationError: samples larger than `max_sample_bytes`.
        ShardNotFoundError: there is no shard folder.
        ShardVersionError: it was written by a newer version.
        ShardCorruptError: its manifest is damaged.
    """
    folder = folder_of(path, (MANIFEST_NAME,))
    manifest, shards = read_manifest(folder), list_shards(folder)
    manifest.check_sample_bytes(max_sample_bytes, folder)
    damaged, broken = _damaged(folder, manifest, shards, progress)
    return ShardReport(
        path=folder,
        manifest=manifest,
        num_bytes=sum((folder / name).stat().st_size for names in shards.values() for name in names),
        damaged=damaged,
        damaged_shards=tuple(
            sorted(k for k, names in broken.items() if k < manifest.num_shards and names == shards[k])
        ),
        missing_shards=tuple(index for index in range(manifest.num_shards) if index not in shards),
    )


def damaged_shards(folder: Path, manifest: Manifest) -> dict[int, list[str]]:
    """Shard index → names of its damaged files."""
    return _damaged(folder, manifest, list_shards(folder), None)[1]


def _damaged(
    folder: Path, manifest: Manifest, shards: dict[int, list[str]], progress: Callable[[int, int], None] | None
) -> tuple[dict[str, str], dict[int, list[str]]]:
    reasons: dict[str, str] = {}
    broken: dict[int, list[str]] = {}
    total = sum(map(len, shards.values()))
    done = 0
    for index, names in sorted(shards.items()):
        for name in names:
            reason = _fault(folder / name, manifest, index)
            if reason is not None:
                reasons[name] = reason
                broken.setdefault(index, []).append(name)
            done += 1
            if progress is not None:
                progress(done, total)
    return reasons, broken


def _fault(path: Path, manifest: Manifest, index: int) -> str | None:
    """What is wrong with a file, or None."""
    if index >= manifest.num_shards:
        return f"the plan has only {manifest.num_shards} shards"
    shard = None
    try:
        shard = OpenShard(path, manifest, index, known=None, digest=True, mapped=not on_network(path))
        return wrong_content(shard, manifest, index)
    except (ShardFault, ShardCorruptError) as error:
        return str(error)
    finally:
        if shard is not None:
            shard.close()
