"""`render_shards`: a stretch of a synthetic sequence, written to disk; stop it at any moment and run it again."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from torchgenaug.errors import CollapseWarning, ConfigurationError, ShardError
from torchgenaug.sequence.memory_retry import MemoryRetry
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.shards.folder import list_shards, remove_abandoned
from torchgenaug.shards.format import Manifest
from torchgenaug.shards.inventory import Damage, truncated_shards
from torchgenaug.shards.read.reader import ShardSource
from torchgenaug.shards.render.plan import adopt_plan, lay_down, plan_render
from torchgenaug.shards.render.ranks import Presence, Ranks, wait_for_others, wait_for_plan
from torchgenaug.shards.render.watchdog import Watchdog
from torchgenaug.shards.structure import CALL_SIZE_ATTRIBUTE, filters
from torchgenaug.shards.verify import damaged_shards
from torchgenaug.shards.write.background import BackgroundWriter
from torchgenaug.types import Batch

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters at least: C:/ is a disk

_NO_ROOM = {
    errno.ENOSPC: "is full. Free some space.",
    errno.EDQUOT: "is full: your quota is used up. Free some of your space there.",
    errno.EFBIG: "takes no file as large as a shard. Raise the limit (ulimit -f), or use a smaller `shard_size`.",
}

Progress: TypeAlias = Callable[[int, int, int], None]
"""Called with (samples made, samples to make, bytes committed), all of this call; from two threads, never at once."""


def render_shards(
    sequence: SyntheticSequence,
    path: str | os.PathLike[str],
    count: int,
    *,
    batch_size: int = 32,
    shard_size: int = 1024,
    compression: str | None = None,
    dtype: str | None = None,
    resume: bool | Literal["verify", "extend"] = True,
    progress: bool | Progress | None = None,
    ranks: tuple[int, int] | None = None,
    timeout_s: float | None = None,
) -> ShardSource:
    """Renders samples 0 to count - 1 into a folder of HDF5 shards, and opens it.

    Deterministic: the same call gives the same bytes, in one go or interrupted any number of times. Writing, hashing
    and syncing happen in a second thread while the next samples are made.

    The first 256 samples of each shard are watched for collapse of the model (`torchgenaug.screens.CollapseWatch`).

    Under ``torchrun`` or ``accelerate launch`` call it in every process: rank r of W makes the shards r, r + W, …, and
    returns when all are there. The folder is all that the processes share; the bytes are those of one process, and a
    resume may use another number. torch computes with as many threads as in the first run, which the manifest states.

    Args:
        sequence: what to render.
        path: the folder (no URL); made if absent. One that holds a part of this very render is completed.
        count: number of samples.
        batch_size: samples made in one call of the synthesizer. Part of the plan: it decides their last bits.
        shard_size: samples per file, rounded up to a multiple of `batch_size`.
        compression: None (fastest to read), ``"lz4"``, ``"zstd"`` (smallest; both need ``hdf5plugin``) or ``"gzip"``.
        dtype: stored dtype of floating-point intensity fields: ``"float32"``, ``"float16"``, ``"uint8"`` or
            ``"uint16"``; None keeps each field's own. The reader gives the field's own dtype back; the manifest states
            the worst error.
        resume: True keeps finished shards (only their sizes are looked at); False refuses a folder that already holds a
            render; ``"verify"`` reads the finished shards and makes the damaged ones again; ``"extend"`` also takes a
            folder of the same render with a smaller `count`, and adds the rest to it: the bytes are those of one
            render of `count` samples.
        progress: True or False for a bar or none, None for a bar if stderr is a terminal, or a function of (samples
            made, samples to make, bytes committed). Only rank 0 draws a bar, which counts its own part.
        ranks: (rank, world_size) of this process; default: what the launcher put into the environment (RANK,
            WORLD_SIZE), or (0, 1). With (0, 1) this process makes everything, whatever the environment says.
        timeout_s: how long one batch may take: a model that hangs is given up, with ids and seeds. None: it is waited
            for, and every batch that takes 10 minutes is reported on stderr. See `torchgenaug.shards.render.watchdog`.

    Returns:
        The finished folder as a source.

    Raises:
        ConfigurationError: an argument outside its domain, or a folder that holds something else.
        ShardMismatchError: the folder holds a render of another plan; every difference is listed.
        ShardError: not enough space on the disk, or a batch took longer than `timeout_s`. What was committed stays.
        ShardIncompleteError: this rank's part is done, but another rank ended without its own.
        BadSampleError: the synthesizer returned what it must not. What was committed stays.

    Warns:
        CollapseWarning: too many samples look alike. Once per call; they are rendered all the same.

    Example:
        >>> import tempfile
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> folder = tempfile.mkdtemp()
        >>> source = render_shards(SyntheticSequence(AnalyticSynthesizer()), folder, 100, progress=False)
        >>> len(source), source.read([99, 0])["image"].shape
        (100, torch.Size([2, 1, 32, 32]))
    """
    part = Ranks.from_environment() if ranks is None else Ranks(*ranks)
    if _URL.match(os.fspath(path)):
        raise ConfigurationError(
            f"`path` must be a folder of this machine, got {os.fspath(path)!r}. Nothing was rendered: a commit needs "
            "renames and fsync, which object storage does not have. Render to a local folder and copy it there; "
            "ShardSource reads URLs."
        )
    manifest = plan_render(
        sequence, count, batch_size=batch_size, shard_size=shard_size, compression=compression, dtype=dtype
    )
    watchdog = Watchdog(timeout_s)
    filters(compression)  # an absent package is found now, not after the first shard
    folder = Path(path)
    with _full_disk_named(folder):
        if part.rank == 0:
            manifest = lay_down(manifest, folder, resume=resume)
        else:
            wait_for_plan(folder, part, count if resume == "extend" else 0)
            manifest = adopt_plan(manifest, folder)
        remove_abandoned(folder)
        with Presence(folder, part):
            find = damaged_shards if resume == "verify" else truncated_shards
            damage = Damage(folder, manifest, find)
            everything = damage.to_make()
            todo = [index for index in everything if part.owns(index)]
            _check_space(folder, manifest, todo if part.rank else everything)
            committed: set[str] = set()
            if todo:
                total = sum(len(manifest.shard_range(index)) for index in todo)
                shown = progress if callable(progress) or part.rank == 0 else False
                with _Report(shown, total, part) as report, _num_threads(manifest.num_threads):
                    _render(sequence, folder, manifest, todo, report, watchdog)
                    committed = report.names
            damage.clear(part.owns, committed)
    try:
        wait_for_others(folder, manifest, part, damage.unsettled)
    except KeyboardInterrupt as error:
        error.add_note("The shards of this rank are complete. Run the same render again to make the rest.")
        raise
    return ShardSource(folder)


@contextlib.contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = _NO_ROOM.get(error.errno or 0)
        if why is None:
            raise
        notes = getattr(error, "__notes__", ["Nothing was rendered. Run the same render again."])
        raise ShardError(" ".join([f"The disk of {str(folder)!r} {why}", *notes])) from error


@contextlib.contextmanager
def _num_threads(count: int) -> Iterator[None]:
    """Lets torch compute with the thread count of the plan: it decides the last bits."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


def _render(
    sequence: SyntheticSequence,
    folder: Path,
    manifest: Manifest,
    todo: list[int],
    report: _Report,
    watchdog: Watchdog,
) -> None:
    writer = BackgroundWriter(folder, manifest, report.committed)
    maker, warned = MemoryRetry(sequence), False
    with _committed_stay(folder, manifest, writer), watchdog:
        for index in todo:
            ids = manifest.shard_range(index)
            all_seeds = sequence.seeds(ids)
            for start in range(ids.start, ids.stop, manifest.batch_size):
                batch_ids = range(start, min(start + manifest.batch_size, ids.stop))
                seeds = all_seeds[start - ids.start : batch_ids.stop - ids.start]
                watchdog.begin(batch_ids, seeds)
                batch = _made(maker, batch_ids)
                # A copy: the synthesizer may use its buffers again while the thread writes.
                rows = {name: value.to("cpu", copy=True) for name, value in batch.items()}
                watchdog.end()
                writer.put(start, rows, seeds, maker.call_size)
                warned = warned or _warned(writer.alarm)
                report.made(len(batch_ids))
        writer.finish()
        if not warned:
            _warned(writer.alarm)


def _warned(alarm: str) -> bool:
    if alarm:
        warnings.warn(alarm, CollapseWarning, stacklevel=4)
    return bool(alarm)


def _made(maker: MemoryRetry, ids: range) -> Batch:
    """The samples; a warning where they took smaller calls of the model than planned."""
    failures = maker.failures
    batch = maker.batch(ids)
    if maker.failures > failures:
        warnings.warn(
            f"Memory ran out at samples {ids.start} to {ids.stop - 1}: from here on the model is given "
            f"{maker.call_size} samples at once instead of the planned batch. Their last bits may differ from the "
            f"plan's (at most 1e-4); the shards say so (attribute {CALL_SIZE_ATTRIBUTE!r}).",
            RuntimeWarning,
            stacklevel=4,
        )
    return batch


@contextlib.contextmanager
def _committed_stay(folder: Path, manifest: Manifest, writer: BackgroundWriter) -> Iterator[None]:
    """Ends the writer after an error, and notes on it what is there and how to go on."""
    try:
        yield
    except BaseException as error:
        writer.abort()
        done = len(list_shards(folder))
        state = (
            f"{done} of {manifest.num_shards} shards are complete in {str(folder)!r} and stay. "
            "Run the same render again to make the rest."
        )
        error.add_note(state)
        raise


def _check_space(folder: Path, manifest: Manifest, todo: list[int]) -> None:
    """Refuses a render that cannot fit. How far compression shrinks is not known yet: one shard must fit then."""
    if manifest.compression is not None:
        todo = todo[:1]
    needed = sum(len(manifest.shard_range(index)) for index in todo) * manifest.row_bytes()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ShardError(
            f"The disk of {str(folder)!r} must have {needed:,} bytes free for {len(todo)} shards, got {free:,}. "
            "Nothing was rendered. Free some space, or store less: dtype='float16', dtype='uint8', compression='lz4'."
        )


class _Report:
    """Passes progress on to a bar or a function."""

    def __init__(self, progress: bool | Progress | None, total: int, part: Ranks) -> None:
        self._call = progress if callable(progress) else None
        self._total, self._samples, self._bytes = total, 0, 0
        self._lock = threading.RLock()  # samples are counted in one thread, commits in another
        self.names: set[str] = set()
        self._bar = None
        if progress is True or (progress is None and sys.stderr.isatty()):
            from tqdm import tqdm

            name = "render" if part.world_size == 1 else f"render, rank 0 of {part.world_size}"
            self._bar = tqdm(total=total, unit=" samples", desc=name)

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def made(self, samples: int) -> None:
        with self._lock:
            self._samples += samples
            if self._bar is not None:
                self._bar.update(samples)
            self._tell()

    def committed(self, name: str, size: int) -> None:
        with self._lock:
            self.names.add(name)
            self._bytes += size
            if self._bar is not None:
                self._bar.set_postfix_str(f"{self._bytes / 1e6:,.0f} MB", refresh=False)
            self._tell()

    def _tell(self) -> None:
        if self._call is not None:
            self._call(self._samples, self._total, self._bytes)
