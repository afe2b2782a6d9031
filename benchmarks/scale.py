"""Do start-up, memory per worker, cost per sample and open files stay flat, however many samples and shards there are?

Samples are small (one 8×8 uint8 image), so that 10⁷ of them fit into memory-backed files, and what is measured is the
bookkeeping. Each folder is read in a fresh process, as a worker would: start (the source, and its first sample), the
first touch of every shard, random batches of 64, then open files and the memory that the process does not share.
`MixPlan` is measured in the same way. Under ``torchrun`` 2 and 4 ranks read one folder, each its share.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import is_wanted, publish

BATCH = 64
SHAPE = (1, 8, 8)
# 64 nodes of 8 GPUs, each of which trains on so many samples a second.
NODES, RANKS, RATE = 64, 8, 1000
PAPER = "64 nodes, on paper"


def render(folder: Path, count: int, shards: int) -> None:
    """Sample k is filled with k mod 251."""
    from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticSequence, render_shards

    class Ids:
        fingerprint = "0" * 64

        def __call__(self, ids: Sequence[int]) -> dict[str, torch.Tensor]:
            return {"image": (torch.as_tensor(ids) % 251).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, *SHAPE)}

    def fill(seeds: Sequence[int], conditions: Any) -> dict[str, torch.Tensor]:
        return {"image": conditions["image"]}

    synthesizer = FunctionSynthesizer(fill, {"image": FieldSpec(SHAPE, torch.uint8)}, fingerprint="fill")
    size = max(1, count // shards)
    render_shards(
        SyntheticSequence(synthesizer, Ids(), screens=()), folder, count, batch_size=min(size, 10_000), shard_size=size,
        progress=False, ranks=(0, 1),
    )  # fmt: skip


def unshared_mib() -> float:
    """Memory of this process that belongs to it alone and is no file."""
    content = Path("/proc/self/smaps_rollup").read_text()
    found = re.search(r"^Anonymous:\s+(\d+) kB", content, re.MULTILINE)
    return int(found[1]) / 1024 if found else float("nan")


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = function()
    return time.perf_counter() - began, value


def read_source(folder: str, samples: int) -> dict[str, float]:
    """Run in a process of its own."""
    import h5py  # noqa: F401 (the import is not what is measured)

    from torchgenaug.shards import ShardSource

    before = unshared_mib()
    start, source = timed(lambda: ShardSource(folder))
    first, _ = timed(lambda: source.read(np.array([len(source) // 2])))
    every = np.arange(0, len(source), source.manifest.shard_size)
    touch, _ = timed(lambda: source.read(every))
    generator = np.random.default_rng(0)
    batches = [generator.integers(0, len(source), BATCH) for _ in range(samples // BATCH)]
    for batch in batches[:20]:
        source.read(batch)
    seconds = []
    for _ in range(3):
        took, last = timed(lambda: [source.read(batch) for batch in batches][-1])
        seconds.append(took)
    if not torch.equal(last["image"][:, 0, 0, 0], torch.from_numpy(batches[-1] % 251).to(torch.uint8)):
        raise AssertionError("a sample is not what was rendered")
    return {
        "start_s": start + first,
        "touch_every_shard_s": touch,
        "us_per_sample": 1e6 * min(seconds) / (len(batches) * BATCH),
        "unshared_MiB": unshared_mib() - before,
        "open_files": len(os.listdir("/proc/self/fd")),
        "pickle_bytes": len(pickle.dumps(source)),
        "bytes_per_sample": sum(path.stat().st_size for path in Path(folder).glob("*.h5")) / len(source),
    }


def read_plan(count: str, samples: int) -> dict[str, float]:
    """Run in a process of its own: as many synthetic as real samples."""
    from torchgenaug.plan.mix_plan import MixPlan

    size, before = int(count), unshared_mib()
    start, plan = timed(lambda: MixPlan(size, size, 0.25))
    first, _ = timed(lambda: plan.codes(np.arange(BATCH) % size, 0))
    following, _ = timed(lambda: plan.codes(np.arange(BATCH) % size, 1))
    generator = np.random.default_rng(0)
    batches = [generator.integers(0, size, BATCH) for _ in range(samples // BATCH)]
    took, _ = timed(lambda: [plan.codes(batch, 1) for batch in batches])
    return {
        "start_s": start + first,
        "next_epoch_s": following,
        "us_per_sample": 1e6 * took / (len(batches) * BATCH),
        "unshared_MiB": unshared_mib() - before,
        "pickle_bytes": len(pickle.dumps(plan)),
    }


def read_rank(folder: str, samples: int) -> dict[str, float]:
    """Run under torchrun: this rank's share of one shuffled epoch, whole batches."""
    import torch.distributed as dist
    from torch.utils.data import BatchSampler, DistributedSampler

    from torchgenaug import ShardSource

    dist.init_process_group("gloo")
    source = ShardSource(folder)
    sampler = DistributedSampler(range(len(source)), shuffle=True, drop_last=True)  # type: ignore[arg-type, var-annotated]
    batches = [np.array(batch) for batch in BatchSampler(sampler, BATCH, False)]
    source.read(np.arange(0, len(source), source.manifest.shard_size))
    dist.barrier()
    took, counts = timed(lambda: [len(source.read(batch)["image"]) for batch in batches])
    slowest = torch.tensor([took, sum(counts)], dtype=torch.float64)
    total = slowest.clone()
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    dist.all_reduce(total)
    dist.destroy_process_group()
    return {"samples": float(total[1]), "seconds": float(slowest[0])}


def in_process(task: str, argument: str, samples: int, ranks: int = 0) -> dict[str, float]:
    """One of the readers above in fresh processes; the result of the first."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks else []
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "benchmarks.scale", task, argument, str(samples)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCHGENAUG_BENCHMARK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{task} {argument}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(*, quick: bool = False, only: str | None = None) -> dict[str, Any]:
    if quick:
        folders, plans, ranks, samples = [(1000, 10), (1000, 100)], [1000], [2], 1280
    else:
        folders = [(1000, 10), (10_000, 10), (100_000, 10), (1_000_000, 10), (10_000_000, 10)]
        folders += [(100_000, 1), (100_000, 100), (100_000, 10_000), (1_000_000, 1000)]
        plans, ranks, samples = [10**3, 10**4, 10**5, 10**6, 10**7], [1, 2, 4], 64_000
    results: dict[str, Any] = {name: {} for name in ("source", "plan", "torchrun") if is_wanted(name, only)}
    where = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for count, shards in folders if results.keys() & {"source", "torchrun"} else ():
        with tempfile.TemporaryDirectory(prefix="torchgenaug-scale-", dir=where) as name:
            folder = Path(name)
            took, _ = timed(lambda folder=folder, count=count, shards=shards: render(folder, count, shards))
            title = f"{count} samples, {shards} shards"
            if "source" in results:
                results["source"][title] = in_process("source", name, samples) | {"render_s": took}
            if "torchrun" in results and (count, shards) == folders[-1]:
                for number in ranks:
                    ranked = in_process("rank", name, samples, number)
                    ranked["samples_per_s"] = ranked["samples"] / ranked["seconds"]
                    results["torchrun"][f"{number} ranks"] = ranked
    for count in plans if "plan" in results else ():
        results["plan"][f"{count} real, {count} synthetic"] = in_process("plan", str(count), samples)
    if is_wanted(PAPER, only):
        results[PAPER] = on_paper()
    return publish("scale", results, quick=quick, only=only)


def on_paper() -> dict[str, Any]:
    """What one shared file system must give, for a quarter of synthetic samples of two sizes."""
    table: dict[str, Any] = {
        "assumed": f"{NODES} nodes of {RANKS} GPUs, {RATE} samples/s per GPU, ratio 0.25, every sample read from the "
        "file system (the first epoch); from the second on, what fits into a node's page cache is not read again",
    }
    overhead = 8 + 8 + 8  # id, seed, one checksum; beside them HDF5 itself takes 2 to 4 KiB per file
    for shape, size in {"1×256×256 float32": 4 * 256**2, "1×256×256 uint8": 256**2, "96³ float32": 4 * 96**3}.items():
        per_second = NODES * RANKS * RATE * 0.25 * (size + overhead)
        table[shape] = {"bytes_per_sample": size + overhead, "GB_per_s": per_second / 1e9}
    return table


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 4:
        reader = {"source": read_source, "plan": read_plan, "rank": read_rank}[sys.argv[1]]
        answer = reader(sys.argv[2], int(sys.argv[3]))
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(answer))
    else:
        measure()
