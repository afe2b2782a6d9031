"""What does a pool cost: processor time per sample beside the generator's own, and memory per sample?

1. Processor time of a pool that fills its windows, in a thread and in a process, against calls of the generator in the
   same batches: samples per second of a core, over those of the bare calls. The generator is a small diffusion model
   (1×32×32, of `benchmarks.pool`). The start of the pool's process is not counted, its reading and writing is. Beside
   it a bare process, which copies each batch into shared memory and is asked for the next.
2. Peak memory of a training with a pool against the same training without, in fresh processes; for two sizes of the
   pool, so that what a sample takes is told apart from what a pool takes. Samples are 1×64×64 float32 (16 KiB), a
   quarter of the pool is renewed in each epoch. With a process, its memory is counted with that of the training; shared
   pages are counted in each of the two that has touched them.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.harness import interleaved, publish, throughput_ratios
from benchmarks.loader import BATCH
from benchmarks.mixing import FIELDS, InMemory
from benchmarks.pool import diffusion, train
from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticMixLoader, SyntheticPool, SyntheticSequence

BACKGROUNDS: dict[str, bool | Literal["process"]] = {"thread": True, "process": "process"}
BARE, SAMPLE_BYTES = "the generator alone", 64 * 64 * 4 + 8
BY_HAND = "a process by hand that copies into shared memory"
REFRESH = 0.25
_LOOK_S = 0.1  # the sleeping process that looks on takes processor time, too: 1 % every 0.01 s


def filling(names: Sequence[str], windows: int, capacity: int, rounds: int, steps: int) -> dict[str, Any]:
    """Samples per processor second."""
    sequence, _ = diffusion(16, steps)
    synthesizer, batch_size = sequence.synthesizer, 32
    seconds: dict[str, list[float]] = {}

    def bare() -> None:
        began = time.process_time()
        for start in range(0, windows * capacity, batch_size):
            synthesizer.synthesize(sequence.seeds(range(start, start + batch_size)).tolist())
        seconds.setdefault(BARE, []).append(time.process_time() - began)

    def settle(pool: SyntheticPool, epoch: int) -> None:
        """Waits until the windows of `epoch` and of the one after it are full, and nothing is being made."""
        while pool.stats.generated < (epoch + 2) * capacity:
            time.sleep(_LOOK_S)

    def by_hand() -> None:
        context = torch.multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        shared = {
            name: torch.empty((batch_size, *spec.shape)).share_memory_() for name, spec in sequence.fields.items()
        }
        child = context.Process(target=make_batches, args=(theirs, sequence, shared), daemon=True)
        child.start()
        kept = torch.empty(capacity, *sequence.fields["image"].shape)
        for round_ in (-2, -1, *range(windows)):  # two windows first, as for a pool
            if round_ == 0:
                began = time.process_time() + _children_s()
            for start in range(0, capacity, batch_size):
                ours.send(range(start, start + batch_size))
                ours.recv()
                kept[start : start + batch_size] = shared["image"]
        seconds.setdefault(BY_HAND, []).append(time.process_time() + _children_s() - began)
        child.kill()
        child.join()

    def pooled(name: str) -> None:
        with SyntheticPool(
            sequence, capacity, refresh=1.0, batch_size=batch_size, background=BACKGROUNDS[name], rank=0, world_size=1
        ) as pool:
            settle(pool, 0)  # the first calls in a process take longer
            began = time.process_time() + _children_s()
            for epoch in range(1, windows + 1):
                pool.set_epoch(epoch)
                settle(pool, epoch)
            seconds.setdefault(name, []).append(time.process_time() + _children_s() - began)
            if pool.stats.generated != (windows + 2) * capacity:
                raise AssertionError(f"{name}: {pool.stats.generated} samples, expected {(windows + 2) * capacity}")

    contestants = {BARE: bare} | {name: functools.partial(pooled, name) for name in names}
    if "process" in names:
        contestants[BY_HAND] = by_hand
    interleaved(contestants, rounds=rounds)
    timings = {name: _Taken(taken[1:]) for name, taken in seconds.items()}  # without the warm-up
    return throughput_ratios(timings, dict.fromkeys(timings, windows * capacity), BARE)  # type: ignore[arg-type]


def make_batches(connection: Any, sequence: SyntheticSequence, shared: dict[str, Tensor]) -> None:
    """What a process does that makes batches for another one, and checks nothing."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    while True:
        ids = connection.recv()
        batch = sequence.synthesizer.synthesize(sequence.seeds(ids).tolist())
        for name, values in shared.items():
            values.copy_(batch[name])
        connection.send(None)


class _Taken:
    def __init__(self, seconds: list[float]) -> None:
        self.seconds, self.median = seconds, statistics.median(seconds)


def _children_s() -> float:
    """Processor seconds of living child processes so far."""
    total = 0.0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def images(seeds: Sequence[int], conditions: Any) -> dict[str, Tensor]:
    """Ramps: a generator that takes little memory of its own."""
    values = torch.tensor([seed / 2**64 for seed in seeds])
    made = values.reshape(-1, 1, 1, 1) * torch.linspace(0, 1, 64 * 64).reshape(64, 64)
    return {"image": made, "label": torch.zeros(len(seeds), dtype=torch.long)}


def sequence() -> SyntheticSequence:
    fields = {"image": FieldSpec((1, 64, 64)), "label": FieldSpec((), torch.int64, kind="scalar")}
    return SyntheticSequence(FunctionSynthesizer(images, fields, fingerprint="0" * 64))


def peak_of_training(background: str, capacity: int) -> None:
    """Runs in a process of its own: trains two epochs, and prints the peak of its memory in bytes."""
    torch.set_num_threads(1)
    plain = DataLoader(InMemory(20 * BATCH, 0), BATCH, shuffle=True)
    pool = None
    if background != "none":
        source = sequence if background == "process" else sequence()
        pool = SyntheticPool(source, capacity, refresh=REFRESH, batch_size=BATCH, background=BACKGROUNDS[background])
    for epoch in range(3):
        if pool is None:
            train(image for image, _ in plain)
            continue
        mixed = SyntheticMixLoader(plain, pool, 0.5, fields=FIELDS)
        mixed.set_epoch(epoch)
        train(image for image, _ in mixed)
    print(_peak_bytes())
    if pool is not None:
        pool.close()


def _peak_bytes() -> int:
    """Peak of this process and of its children, whose shared memory is this one's, too.

    Not by ``getrusage``: its peak is that of the process that started this one, where that was larger.
    """
    total = 0
    for process in (None, *multiprocessing.active_children()):
        lines = Path(f"/proc/{process.pid if process else 'self'}/status").read_text().splitlines()
        status = {name: value for name, _, value in (line.partition(":") for line in lines)}
        total += int(status["VmHWM"].split()[0]) - (int(status["RssShmem"].split()[0]) if process else 0)
    return total * 1024


def memory(names: Sequence[str], capacities: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Peaks of memory in MiB, and bytes per pool sample."""

    def peak(background: str, capacity: int) -> float:
        code = f"from benchmarks.pool_cost import peak_of_training; peak_of_training({background!r}, {capacity})"
        runs = [
            subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
            for _ in range(rounds)
        ]
        return statistics.median(float(run.stdout.splitlines()[-1]) for run in runs)

    without = peak("none", 0)
    table: dict[str, Any] = {"without a pool": {"peak_MiB": without / 2**20}}
    for name in names:
        small, large = (peak(name, capacity) for capacity in capacities)
        per_sample = (large - small) / (capacities[1] - capacities[0])
        table[f"{name}, {capacities[1]:,} samples"] = {
            "peak_MiB": large / 2**20,
            "MiB_per_pool_sample": per_sample / 2**20,
            "over_the_bytes_of_a_sample": per_sample / SAMPLE_BYTES,
            "fixed_MiB": (small - without - per_sample * capacities[0]) / 2**20,
        }
    return table


def measure(*, quick: bool = False) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an untrained network's images look like nothing
        results = {
            "samples per processor second": filling(["thread"], 1, 32, 1, 2)
            if quick
            else filling([*BACKGROUNDS], 3, 64, 4, 4),
            "peak memory": memory(["thread"], (64, 128), 1) if quick else memory([*BACKGROUNDS], (2048, 8192), 1),
        }
    return publish("pool_cost", results, quick=quick)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
