"""Makes the samples of some shards of a plan, while another thread writes them."""

from __future__ import annotations

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from torchgenaug.errors import CollapseWarning, ConfigurationError, ShardCorruptError, ShardError
from torchgenaug.sequence.memory_retry import MemoryRetry
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.shards.folder import list_shards
from torchgenaug.shards.format import Manifest
from torchgenaug.shards.render.new_plan import NewPlan
from torchgenaug.shards.render.plan import check_room
from torchgenaug.shards.render.report import Report
from torchgenaug.shards.render.watchdog import Watchdog
from torchgenaug.shards.structure import CALL_SIZE_ATTRIBUTE
from torchgenaug.shards.write.background import BackgroundWriter
from torchgenaug.types import Batch

_NO_ROOM = {
    errno.ENOSPC: "is full. Free some space.",
    errno.EDQUOT: "is full: your quota is used up. Free some of your space there.",
    errno.EFBIG: "takes no file as large as a shard. Raise the limit (ulimit -f), or use a smaller `shard_size`.",
}


def make_shards(
    sequence: SyntheticSequence,
    folder: Path,
    manifest: Manifest,
    todo: list[int],
    report: Report,
    watchdog: Watchdog,
    new: NewPlan | None = None,
) -> None:
    """Makes and commits shards, in the order given; hashing and syncing one while the next is made.

    Args:
        sequence: what to render.
        folder: the shard folder, with its manifest.
        manifest: the plan.
        todo: indices of the shards.
        report: hears of every batch and every commit.
        watchdog: gives up a batch that takes too long.
        new: the plan, where it was laid down just now: taken away again if an error comes before the first shard.

    Raises:
        OSError: the disk.
        ShardError: a batch took too long.
        BadSampleError: the synthesizer returned what it must not. What was committed stays.

    Warns:
        CollapseWarning: too many samples look alike.
    """
    writer = BackgroundWriter(folder, manifest, report.committed)
    maker, warned = MemoryRetry(sequence), False
    with _committed_stay(folder, manifest, writer, new), watchdog:
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
def _committed_stay(folder: Path, manifest: Manifest, writer: BackgroundWriter, new: NewPlan | None) -> Iterator[None]:
    """Ends the writer after an error, and notes on it what is there and how to go on."""
    try:
        yield
    except BaseException as error:
        writer.abort()
        done = len(list_shards(folder))
        state = f"{done} of {manifest.num_shards} shards are complete in {str(folder)!r}"
        if not done and new is not None and _is_of_the_plan(error) and new.withdraw():
            state = f"Nothing was rendered, and nothing is left of it in {str(folder)!r}."
            if not isinstance(error, ConfigurationError):  # the same render would be refused again
                state += " Render again, if need be with other settings."
        elif done or not isinstance(error, ConfigurationError):
            state += " and stay. Run the same render again to make the rest."
        else:  # the same render would fail again
            state += ". With other settings, render into a new folder, or delete this one first: it holds their plan."
        error.add_note(state)
        raise


def _is_of_the_plan(error: BaseException) -> bool:
    """Whether other settings are the way out, and not more room or another attempt with the same."""
    if isinstance(error, OSError):
        return error.errno == errno.EFBIG
    return isinstance(error, Exception) and not isinstance(error, ShardCorruptError)  # which the disk did


@contextlib.contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Lets torch compute with the thread count of the plan: it decides the last bits."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def _is_about(error: OSError, folder: Path) -> bool:
    """Whether an error is one of the folder or of those that it lies in, and not of what a model reads."""
    if not isinstance(error.filename, (str, os.PathLike)):
        return False
    place = Path(error.filename)
    return place == folder or folder in place.parents or place in folder.parents


@contextlib.contextmanager
def disk_errors_named(folder: Path) -> Iterator[None]:
    """Raises `ShardError`, with the way out, where the disk is full or this user may not write to the folder."""
    try:
        yield
    except OSError as error:
        notes = getattr(error, "__notes__", ["Nothing was rendered. Run the same render again."])
        if error.errno in _REFUSED and _is_about(error, folder):
            remedy = f"Its owner can allow it: chmod -R g+rwX {folder}"
            if error.errno == errno.EROFS:
                remedy = "The disk is mounted read-only. Give another folder."
            raise ShardError(
                f"{str(folder)!r} must be a folder that this user may enter, read and write, got {error.strerror} at "
                f"{str(error.filename)!r}. {' '.join(notes)} {remedy}"
            ) from error
        why = _NO_ROOM.get(error.errno or 0)
        if why is None:
            raise
        raise ShardError(" ".join([f"The disk of {str(folder)!r} {why}", *notes])) from error


def check_space(folder: Path, manifest: Manifest, todo: list[int], new: NewPlan | None = None) -> None:
    """Refuses a render that cannot fit. How far compression shrinks is not known yet: one shard must fit then."""
    if manifest.compression is not None:
        todo = todo[:1]
    needed = sum(len(manifest.shard_range(index)) for index in todo) * manifest.row_bytes()
    try:
        check_room(folder, needed, f"{len(todo)} shards")
    except ShardError:
        if new is not None:
            new.withdraw()  # its dtype and compression are what the error advises to change
        raise
