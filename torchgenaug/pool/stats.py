"""`PoolStats`: what a pool did so far, in numbers and in a line."""

from __future__ import annotations

from dataclasses import dataclass

from torchgenaug.pool.storage.window import Window


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a pool did so far, in all processes.

    Attributes:
        epoch: the current epoch.
        part: the current part of it, 0 in a pool that changes from epoch to epoch only.
        window: its first id, and the one after its last; in between, batches of other ranks are left out.
        generated: samples made by the model, those included that only fill up a batch.
        loaded: samples read from a render.
        served: samples handed out.
        reuse_mean: how often a sample was handed out, mean over those that were at all.
        reuse_max: the same, the largest. A sample made again after a jump between epochs counts anew.
        epochs_per_sample: in how many epochs a sample can be seen at most, ceil(capacity / step) where an epoch has one
            part; None: in all.
        wait_s: seconds that the owner's process waited for samples.
        worker_wait_s: the same for all other processes, summed.
        fill_s: seconds that making the samples took.
        samples_per_s: (generated + loaded) / fill_s; 0 before the first batch.
        call_size: how many samples the model is given at once: the batch size, or less after memory ran out. Samples
            made in smaller calls may differ in the last bits, by 1e-4 at most.
        memory_failures: how often memory ran out.
    """

    epoch: int
    part: int
    window: tuple[int, int]
    generated: int
    loaded: int
    served: int
    reuse_mean: float
    reuse_max: int
    epochs_per_sample: int | None
    wait_s: float
    worker_wait_s: float
    fill_s: float
    samples_per_s: float
    call_size: int
    memory_failures: int


def summary(stats: PoolStats, window: Window, *, closed: bool) -> str:
    """One line for `repr`."""
    lifetime = "all" if stats.epochs_per_sample is None else str(stats.epochs_per_sample)
    per, now = "epoch", f"epoch {stats.epoch}"
    if window.parts > 1:
        per, now = f"part ({window.parts} an epoch)", f"{now}, part {stats.part}"
    loaded = f", loaded {stats.loaded}" if stats.loaded else ""
    smaller = f", in calls of {stats.call_size} (out of memory)" if stats.memory_failures else ""
    return (
        f"SyntheticPool(capacity={window.capacity}, {window.step} new per {per}, each seen in ≤ {lifetime} epochs; "
        f"{now}: ids [{stats.window[0]}, {stats.window[1]}); generated {stats.generated}{loaded} at "
        f"{stats.samples_per_s:.4g}/s{smaller}, served {stats.served}, reuse {stats.reuse_mean:.3g} "
        f"(max {stats.reuse_max}), waited {stats.wait_s:.3g} s{', closed' if closed else ''})"
    )
