"""``torchgenaug render --list-jobs`` and ``--job``: a render as jobs of a scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgenaug.cli.output import say

if TYPE_CHECKING:
    from torchgenaug.shards import ShardJob


def print_jobs(jobs: list[ShardJob]) -> None:
    """Prints the shards to make as Slurm wants its ``--array``: ``0-3,7``; a word on stderr if there are none."""
    if jobs:
        say(array_of([job.index for job in jobs]))
    else:
        say("All shards are there: there is nothing to do.", stderr=True)


def array_of(indices: list[int]) -> str:
    """Sorted numbers as ``0-3,7``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] + 1 == index:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def render_one(jobs: list[ShardJob], index: int, num_shards: int, timeout: float | None) -> None:
    """Makes shard `index`, unless it is there.

    Raises:
        ConfigurationError: there is no such shard.
    """
    from torchgenaug.errors import ConfigurationError
    from torchgenaug.shards import render_job

    if index >= num_shards:
        raise ConfigurationError(
            f"`--job` must be at most {num_shards - 1}, the last shard of this render, got {index}. Nothing was "
            "rendered. See which are missing with --list-jobs."
        )
    job = next((job for job in jobs if job.index == index), None)
    if job is None:
        say(f"Shard {index} of {num_shards} is there already.")
    else:
        say(f"{render_job(job, timeout_s=timeout)}: samples {job.ids.start} to {job.ids.stop - 1}.")
