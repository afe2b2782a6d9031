"""Is `SyntheticMixDataset` as fast as in another checkout of this repository?

    git worktree add --detach /tmp/before COMMIT
    python -m benchmarks.checkouts --before /tmp/before

Two processes, one per checkout, read the same mixes through a `DataLoader` in turns of a fraction of a second. What
counts is the ratio of their processor times in each pair of turns, so that other work on the machine hits both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

SIZE, BATCH = 2048, 64
SHAPES = {"1x64x64": (1, 64, 64), "1x8x8": (1, 8, 8)}


class Samples(Dataset[Any]):
    """Tensors in memory as tuples or dicts."""

    def __init__(self, shape: tuple[int, ...], label: int, *, as_dicts: bool) -> None:
        self.images, self.labels = torch.rand(shape).expand(SIZE, *shape).clone(), [label] * SIZE
        self.as_dicts = as_dicts

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        image, label = self.images[index], self.labels[index]
        return {"image": image, "label": label} if self.as_dicts else (image, label)


def passes() -> dict[str, Callable[[], int]]:
    """One epoch of each mix; returns how many samples were synthetic."""
    from torchgenaug import SyntheticMixDataset

    found: dict[str, Callable[[], int]] = {}
    for name, shape in SHAPES.items():
        for kind in ("tuple", "dict"):
            as_dicts = kind == "dict"
            options: dict[str, Any] = {} if as_dicts else {"fields": ("image", "label")}
            real, synthetic = (Samples(shape, label, as_dicts=as_dicts) for label in (0, 1))
            for ratio in (0.0, 0.25):
                mixed = SyntheticMixDataset(real, synthetic, ratio, **options)
                found[f"{kind} of {name}, ratio {ratio}"] = lambda mixed=mixed: _read(mixed)  # type: ignore[misc]
    return found


def _read(mixed: Any) -> int:
    mixed.set_epoch(mixed.epoch + 1)
    loader = DataLoader(mixed, BATCH, shuffle=True, generator=torch.Generator().manual_seed(0))
    return sum(int((batch["label"] if isinstance(batch, dict) else batch[1]).sum()) for batch in loader)


def serve() -> None:
    """Reads names of mixes from standard input, and answers each with the processor seconds of one epoch."""
    torch.set_num_threads(1)
    found = passes()
    print(json.dumps(list(found)), flush=True)
    for line in sys.stdin:
        began = time.process_time()
        count = found[line.strip()]()
        print(json.dumps([time.process_time() - began, count]), flush=True)


class Checkout:
    """A process that serves one checkout."""

    def __init__(self, tree: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve"],
            env=environment,
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.names: list[str] = json.loads(self._line())

    def seconds(self, name: str) -> float:
        """Processor seconds of one epoch."""
        if self.process.stdin is None:
            raise RuntimeError("the process has no standard input")
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        seconds, count = json.loads(self._line())
        expected = round(float(name.rpartition(" ")[2]) * SIZE)
        if count != expected:
            raise AssertionError(f"{name}: {count} samples were synthetic, not {expected}")
        return float(seconds)

    def _line(self) -> str:
        return self.process.stdout.readline() if self.process.stdout is not None else ""


def compared(before: Path, now: Path, pairs: int) -> Mapping[str, Any]:
    """Time now over time before, per mix: median and quartiles over pairs of turns; and of the fastest turn of each."""
    old, new = Checkout(before), Checkout(now)
    table = {}
    for name in old.names:
        for checkout in (old, new, old, new):
            checkout.seconds(name)
        turns: dict[int, list[float]] = {id(old): [], id(new): []}
        for pair in range(pairs):
            first, second = (old, new) if pair % 2 else (new, old)
            for checkout in (first, second):
                turns[id(checkout)].append(checkout.seconds(name))
        was, now_is = turns[id(old)], turns[id(new)]
        low, middle, high = statistics.quantiles([b / a for a, b in zip(was, now_is, strict=True)], n=4)
        table[name] = {"ratio": middle, "ratio_q1": low, "ratio_q3": high, "ratio_of_fastest": min(now_is) / min(was)}
        table[name]["us_per_sample"] = 1e6 * min(now_is) / SIZE
    for checkout in (old, new):
        checkout.process.kill()
        checkout.process.wait()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="checkout to compare with")
    parser.add_argument("--pairs", type=int, default=25, help="pairs of turns for each mix")
    parser.add_argument("--quick", action="store_true", help="print only, keep no result")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    from benchmarks.harness import publish

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=options.before, capture_output=True, text=True, check=True
    ).stdout.strip()
    table = compared(options.before.resolve(), Path.cwd(), options.pairs)
    publish("checkouts", {"before": commit, "pairs": options.pairs, "mixes": table}, quick=options.quick)


if __name__ == "__main__":
    main()
