"""A render as jobs: each makes one shard, on any engine that runs functions (Ray, Slurm, Dask, a process pool).

`render_shards` under ``torchrun`` gives shard k to rank k mod world_size, so that the slowest machine decides when a
render ends. An engine gives the next shard to whoever is free, and runs a job again whose machine went away. The bytes
are the same.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from torchgenaug.errors import ConfigurationError
from torchgenaug.local_paths import local_path
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.shards.folder import list_shards
from torchgenaug.shards.inventory import Damage, truncated_shards
from torchgenaug.shards.render.making import check_space, disk_errors_named, make_shards, num_threads
from torchgenaug.shards.render.new_plan import NewPlan
from torchgenaug.shards.render.plan import adopt_plan, lay_down, plan_render, refuse_url
from torchgenaug.shards.render.report import Progress, Report
from torchgenaug.shards.render.watchdog import Watchdog
from torchgenaug.shards.structure import filters
from torchgenaug.shards.temporary import remove_abandoned
from torchgenaug.shards.verify import damaged_shards

MAX_JOB_BYTES = 1 << 20
"""Largest pickle of a job: engines keep thousands of jobs, so a job must not carry a model's weights."""

_opened: tuple[object, SyntheticSequence] | None = None


class RenderSettings(TypedDict):
    """What decides the bytes of a render apart from the sequence: arguments of `torchgenaug.render_shards`."""

    count: int
    batch_size: int
    shard_size: int
    compression: str | None
    dtype: str | None


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard of a render that is still to be made; small, and picklable.

    Attributes:
        path: the shard folder, absolute; every machine must see it under this path.
        index: of the shard.
        ids: which samples it holds: ``range(first, last + 1)``.
        sequence: what is rendered, or a function that returns it.
        settings: the arguments of the render.
        replaces: names of damaged files of this shard, which go when the job is done.
    """

    path: str
    index: int
    ids: range
    sequence: SyntheticSequence | Callable[[], SyntheticSequence]
    settings: RenderSettings
    replaces: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self.sequence, SyntheticSequence) and (size := len(pickle.dumps(self.sequence))) > MAX_JOB_BYTES:
            raise ConfigurationError(
                f"A job must be at most {MAX_JOB_BYTES >> 20} MiB to travel to another process, got {size:,} bytes: it "
                "carries the model. Give shard_jobs a function of a module that returns the sequence instead of the "
                "sequence; each process then calls it once."
            )
        return ShardJob, (self.path, self.index, self.ids, self.sequence, self.settings, self.replaces)


def shard_jobs(
    sequence: SyntheticSequence | Callable[[], SyntheticSequence],
    path: str | os.PathLike[str],
    count: int,
    *,
    batch_size: int = 32,
    shard_size: int = 1024,
    compression: str | None = None,
    dtype: str | None = None,
    resume: bool | Literal["verify", "extend"] = True,
) -> list[ShardJob]:
    """Lays down the plan of a render, and returns a job for every shard that is missing.

    Call it once, in one process; then let any engine call `render_job` with each job, in any order, on any machine that
    sees the folder. When all are done, ``ShardSource(path)`` opens the render. After an interruption call it again: it
    returns what is still missing.

    Args:
        sequence: what to render; or a function that returns it, by which a process that gets jobs makes its own. The
            function should be one of a module, or a ``functools.partial`` of one.
        path: as for `torchgenaug.render_shards`.
        count: as for `torchgenaug.render_shards`.
        batch_size: as for `torchgenaug.render_shards`.
        shard_size: as for `torchgenaug.render_shards`: the work of one job, and what is lost when a machine goes away.
        compression: as for `torchgenaug.render_shards`.
        dtype: as for `torchgenaug.render_shards`.
        resume: as for `torchgenaug.render_shards`.

    Returns:
        The jobs, by index; empty if the render is complete.

    Raises:
        ConfigurationError: an argument outside its domain, or a folder that holds something else.
        ShardMismatchError: the folder holds a render of another plan; every difference is listed.
        ShardError: not enough space on the disk.

    Example:
        >>> import tempfile
        >>> from torchgenaug import ShardSource, SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> folder = tempfile.mkdtemp()
        >>> jobs = shard_jobs(SyntheticSequence(AnalyticSynthesizer()), folder, 100, shard_size=32)
        >>> [job.ids for job in jobs]
        [range(0, 32), range(32, 64), range(64, 96), range(96, 100)]
        >>> names = [render_job(job) for job in reversed(jobs)]
        >>> len(ShardSource(folder))
        100
    """
    refuse_url(path)
    settings: RenderSettings = {
        "count": count,
        "batch_size": batch_size,
        "shard_size": shard_size,
        "compression": compression,
        "dtype": dtype,
    }
    manifest = plan_render(_called(sequence, anew=True), **settings)
    filters(compression)  # an absent package is found now, not after the first shard
    folder = local_path(path)
    new = NewPlan(folder)
    with disk_errors_named(folder):
        manifest = lay_down(manifest, folder, resume=resume)
        remove_abandoned(folder)
        damage = Damage(folder, manifest, damaged_shards if resume == "verify" else truncated_shards)
        todo = damage.to_make()
        check_space(folder, manifest, todo, new)
        damage.clear(lambda index: index not in todo, set())
        there = list_shards(folder)
    return [
        ShardJob(str(folder), index, manifest.shard_range(index), sequence, settings, tuple(there.get(index, ())))
        for index in todo
    ]


def render_job(job: ShardJob, *, progress: bool | Progress | None = False, timeout_s: float | None = None) -> str:
    """Makes the shard of a job.

    A job may run any number of times, at the same time too: the shard appears whole or not at all, and always with the
    same bytes. If the shard is there already, nothing is made.

    Args:
        job: one of `shard_jobs`.
        progress: as for `torchgenaug.render_shards`.
        timeout_s: as for `torchgenaug.render_shards`.

    Returns:
        The name of the shard's file.

    Raises:
        ShardMismatchError: this process would make other bytes, for example with another version of torch or on another
            type of device; or the folder was extended since the job was made. Every difference is listed.
        ShardNotFoundError: this machine does not see the folder.
        ShardError: the disk is full, or a batch took longer than `timeout_s`.
        BadSampleError: the synthesizer returned what it must not.
    """
    folder = Path(job.path)
    sequence = _called(job.sequence)
    watchdog = Watchdog(timeout_s)
    manifest = adopt_plan(plan_render(sequence, **job.settings), folder)
    done = sorted(set(list_shards(folder).get(job.index, ())).difference(job.replaces))
    if done:
        return done[0]
    with disk_errors_named(folder):
        check_space(folder, manifest, [job.index])
        report = Report(progress, len(job.ids), f"shard {job.index}")
        with report, num_threads(manifest.num_threads):
            make_shards(sequence, folder, manifest, [job.index], report, watchdog)
        for name in set(job.replaces) - report.names:
            (folder / name).unlink(missing_ok=True)
    return min(report.names)


def _called(sequence: SyntheticSequence | Callable[[], SyntheticSequence], *, anew: bool = False) -> SyntheticSequence:
    """The sequence; a function is called once per process, until another one is given.

    Args:
        sequence: the sequence, or the function.
        anew: call the function in any case: it may have been defined again, or its model trained again.
    """
    global _opened
    if isinstance(sequence, SyntheticSequence):
        return sequence
    if not callable(sequence):
        raise ConfigurationError(
            f"`sequence` must be a SyntheticSequence or a function that returns one, got {sequence!r}."
        )
    key = _key(sequence)
    if anew or _opened is None or _opened[0] != key:
        made = sequence()
        if not isinstance(made, SyntheticSequence):
            raise ConfigurationError(
                f"`sequence` must be a function that returns a SyntheticSequence, got {type(made).__name__} from "
                f"{sequence!r}."
            )
        _opened = key, made
    return _opened[1]


def _key(function: Callable[[], SyntheticSequence]) -> object:
    """Equal for the copies of a function that jobs bring along."""
    try:
        return pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError):  # of a script or notebook, by cloudpickle
        warnings.warn(
            f"{function!r} belongs to no module that can be imported here: it is called again for every job, and loads "
            "the model each time. Put it into a module.",
            RuntimeWarning,
            stacklevel=4,
        )
        return function
