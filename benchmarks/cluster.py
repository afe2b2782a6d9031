"""How long a render takes on many machines: shard k to process k mod W, or the next shard to whoever is free?

A simulation, not a measurement: 64 nodes of 8 GPUs, half of them half as fast, render into one shared file system, and
each node is taken away once an hour. Only the calls to the file system per shard are counted, in a real render of this
machine. Run with ``python -m benchmarks.cluster``; docs/scale.md shows the tables.

A process of a node that goes away loses the shard it is at, comes back after a pause, and loads the model again.
Writing overlaps with making, as in `torchgenaug.render_shards`; all processes share the bandwidth of the file system.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "results" / "cluster.json"
_CALLS = ("open", "os.listdir", "os.scandir", "os.rename", "os.link", "os.remove", "os.truncate", "os.utime")
_HOUR = 3600.0


@dataclass(frozen=True)
class Cluster:
    """What is simulated.

    Attributes:
        nodes: number of machines.
        gpus: per machine, each with a process.
        slow: share of machines whose GPUs have half the speed.
        samples: to render.
        sample_bytes: size of one.
        rate: samples a second of a fast GPU.
        bandwidth: bytes a second that the file system takes from all together.
        start: seconds to start a process and load the model.
        preemptions: of each node, per hour.
        away: seconds until a node is back.
    """

    nodes: int = 64
    gpus: int = 8
    slow: float = 0.5
    samples: int = 10_000_000
    sample_bytes: int = 1 << 20
    rate: float = 4.0
    bandwidth: float = 20e9
    start: float = 60.0
    preemptions: float = 1.0
    away: float = 600.0


def simulate(cluster: Cluster, shard_size: int, *, dynamic: bool, seed: int = 0) -> dict[str, float]:
    """One render.

    Args:
        cluster: the machines.
        shard_size: samples per shard.
        dynamic: the next shard goes to whoever is free; otherwise shard k is made by process k mod W.
        seed: of the preemptions.

    Returns:
        hours until the last shard is there; share of the work that was done twice; share of the GPUs' time in which
        they waited for nothing but the end.
    """
    draw = random.Random(seed)
    processes = cluster.nodes * cluster.gpus
    shards = -(-cluster.samples // shard_size)
    speed = [0.5 if node < cluster.slow * cluster.nodes else 1.0 for node in range(cluster.nodes)]
    # A process can be no faster than its part of the file system's bandwidth.
    limit = cluster.bandwidth / cluster.sample_bytes / processes
    seconds = [shard_size / min(cluster.rate * factor, limit) for factor in speed]
    gaps = [_Preemptions(draw, cluster) for _ in range(cluster.nodes)]
    queue = list(range(shards - 1, -1, -1))
    own = [list(range(shards - 1 - (shards - 1 - rank) % processes, -1, -processes)) for rank in range(processes)]
    free = [(cluster.start, rank) for rank in range(processes)]
    heapq.heapify(free)
    done, lost, busy = 0.0, 0.0, 0.0
    while free:
        now, rank = heapq.heappop(free)
        todo = queue if dynamic else own[rank]
        if not todo:
            continue
        node = rank // cluster.gpus
        shard = todo.pop()
        end = now + seconds[node]
        gone = gaps[node].gone_before(now, end)
        if gone is None:
            done, busy = max(done, end), busy + seconds[node]
            heapq.heappush(free, (end, rank))
        else:
            todo.append(shard)
            lost += max(0.0, gone - now)
            heapq.heappush(free, (gone + cluster.away + cluster.start, rank))
    return {
        "hours": done / _HOUR,
        "redone": lost / (busy + lost),
        "idle at the end": 1 - (busy + lost) / (done * processes),
    }


class _Preemptions:
    """When one node is taken away: exponential gaps, the same for all its processes."""

    def __init__(self, draw: random.Random, cluster: Cluster) -> None:
        self._draw, self._cluster = random.Random(draw.random()), cluster
        self._times: list[float] = []

    def gone_before(self, start: float, end: float) -> float | None:
        """The first moment in [start, end) at which the node goes, or that at which it last went if it is away."""
        rate = self._cluster.preemptions / _HOUR
        if rate == 0:
            return None
        while not self._times or self._times[-1] <= end:
            last = self._times[-1] + self._cluster.away if self._times else 0.0
            self._times.append(last + self._draw.expovariate(rate))
        for time in self._times:
            if start <= time < end:
                return time
        return None


def calls_per_shard() -> dict[str, float]:
    """Calls to the file system per shard, counted by Python's audit events in a render of 64 shards."""
    from torchgenaug import SyntheticSequence, render_shards
    from torchgenaug.testing import AnalyticSynthesizer

    counts: Counter[str] = Counter()
    counting = [True]
    with tempfile.TemporaryDirectory() as scratch:

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if counting[0] and event in _CALLS and str(arguments[0] if arguments else "").startswith(scratch):
                counts[event] += 1

        sys.addaudithook(hook)
        sequence = SyntheticSequence(AnalyticSynthesizer((8, 8)))
        totals = []
        for shards in (64, 128):  # the difference: what does not depend on their number cancels
            counts.clear()
            render_shards(sequence, Path(scratch) / str(shards), 4 * shards, batch_size=4, shard_size=4, progress=False)
            totals.append(Counter(counts))
        counting[0] = False
    return {name: (totals[1][name] - totals[0][name]) / 64 for name in _CALLS if totals[1][name]}


def rows(cluster: Cluster, sizes: list[int], repeats: int = 3) -> list[dict[str, Any]]:
    """Static and dynamic assignment for every shard size; means of `repeats` draws of the preemptions."""
    table = []
    for size in sizes:
        shards = -(-cluster.samples // size)
        row: dict[str, Any] = {
            "shard size": size,
            "shards": shards,
            "GiB per shard": size * cluster.sample_bytes / 2**30,
            "minutes per shard, fast GPU": size / cluster.rate / 60,
        }
        for name, dynamic in (("static", False), ("dynamic", True)):
            runs = [simulate(cluster, size, dynamic=dynamic, seed=seed) for seed in range(repeats)]
            row[name] = {key: sum(run[key] for run in runs) / repeats for key in runs[0]}
        # A job lists the folder once; a waiting process of a static render lists it every two seconds.
        row["entries listed, dynamic"] = shards * shards / 2
        row["commits per second"] = shards / (row["dynamic"]["hours"] * _HOUR)
        table.append(row)
    return table


CASES = {
    "10⁷ samples of 1 MiB": Cluster(),
    "the same, all GPUs alike": Cluster(slow=0.0),
    "the same, nothing preempted": Cluster(preemptions=0.0),
    "10⁶ volumes of 16 MiB": Cluster(samples=1_000_000, sample_bytes=16 << 20, rate=0.1),
}
SIZES = {"10⁶ volumes of 16 MiB": [4, 16, 64, 256]}


def markdown(case: dict[str, Any]) -> str:
    """The table of one case, as docs/scale.md shows it."""
    lines = [
        "| Samples per shard | Shards | Minutes each | Shard k to process k mod W | Next to whoever is free | Ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in case["rows"]:
        static, moving = row["static"], row["dynamic"]
        lines.append(
            f"| {row['shard size']} | {row['shards']:,} | {row['minutes per shard, fast GPU']:.1f} | "
            f"{static['hours']:.2f} h ({static['redone']:.1%}) | {moving['hours']:.2f} h ({moving['redone']:.1%}) | "
            f"{static['hours'] / moving['hours']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Simulates all cases, prints the tables, and writes results/cluster.json."""
    result: dict[str, Any] = {"calls per shard": calls_per_shard(), "cases": {}}
    for name, cluster in CASES.items():
        table = rows(cluster, SIZES.get(name, [64, 256, 1024, 4096]))
        ideal = cluster.samples / (cluster.rate * cluster.nodes * cluster.gpus * (1 - cluster.slow / 2)) / _HOUR
        result["cases"][name] = {"cluster": asdict(cluster), "ideal hours": ideal, "rows": table}
        print(f"\n{name}: {ideal:.2f} hours of GPU work if nothing is lost\n")
        print(markdown(result["cases"][name]))
    print(result["calls per shard"])
    OUT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
