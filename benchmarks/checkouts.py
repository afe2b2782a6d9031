"""Is it as fast as in another checkout of this repository: mixing, reading, a pool, rendering?

    git worktree add --detach /tmp/before COMMIT
    python -m benchmarks.checkouts --before /tmp/before

Two processes, one per checkout, do the same in turns of a fraction of a second: read mixes through a `DataLoader`, read
shards and a pool in random batches, mix batches, render. What counts is the ratio of their processor times in each pair
of turns, so that other work on the machine hits both alike. Both must report the same number of samples.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
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


def passes(scratch: Path) -> dict[str, Callable[[], int]]:
    """One epoch of each path; returns how many samples were synthetic."""
    return mixes() | paths(scratch)


def paths(scratch: Path) -> dict[str, Callable[[], int]]:
    """Reading, a pool, mixed batches and rendering, of images of 64×64 in memory-backed files."""
    from torchgenaug import (
        FieldSpec,
        FunctionSynthesizer,
        ShardSource,
        SyntheticMixLoader,
        SyntheticPool,
        SyntheticSequence,
        render_shards,
    )

    field = {"image": FieldSpec((1, 64, 64), value_range=(0, 1))}
    noise = torch.rand(64, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    synthesizer = FunctionSynthesizer(lambda seeds, _: {"image": noise[: len(seeds)]}, field, fingerprint="0" * 64)
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(0)).numpy()

    def render(folder: Path, count: int, **options: Any) -> Any:
        shutil.rmtree(folder, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its samples are alike
            sequence = SyntheticSequence(synthesizer)
            return render_shards(sequence, folder, count, batch_size=64, progress=False, **options)

    def read(source: Any) -> int:
        return sum(len(source.read(order[start : start + BATCH])["image"]) for start in range(0, SIZE, BATCH))

    def mixed(loader: Any) -> int:
        return sum(int(loader.is_synthetic.sum()) for _ in loader)

    found: dict[str, Callable[[], int]] = {}
    for compression in (None, "lz4", "gzip"):
        path = render(scratch / f"{compression}", SIZE, compression=compression).path
        for verify in ("sample", "off"):
            source = ShardSource(path, verify=verify)  # type: ignore[arg-type]
            name = f"reading shards, {compression or 'not compressed'}, verify={verify!r}"
            found[name] = lambda source=source: read(source)  # type: ignore[misc]
    time.sleep(2.5)  # until the files are no longer new: of a new file all is compared in each read
    pool = SyntheticPool(SyntheticSequence(synthesizer), SIZE, refresh=0, batch_size=64, background=False)
    pool.set_epoch(0)
    found["reading a pool"] = lambda: read(pool)
    batches = [{"image": noise.clone()} for _ in range(SIZE // BATCH)]
    for mode in ("replace", "extend"):
        loader: Any = SyntheticMixLoader(batches, pool, 0.5, mode=mode)  # type: ignore[arg-type]
        found[f"mixing batches with a pool, {mode} 0.5"] = lambda loader=loader: mixed(loader)  # type: ignore[misc]
    for compression in (None, "gzip"):
        found[f"rendering, {compression or 'not compressed'}"] = lambda compression=compression: len(  # type: ignore[misc]
            render(scratch / "rendered", 512, compression=compression)
        )
    return found


def mixes() -> dict[str, Callable[[], int]]:
    """One epoch of each mix, through a `DataLoader`."""
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
    warnings.simplefilter("ignore")
    where = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="torchgenaug-checkouts-", dir=where) as scratch:
        found = passes(Path(scratch))
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

    def seconds(self, name: str) -> tuple[float, int]:
        """Processor seconds of one epoch, and its synthetic samples."""
        if self.process.stdin is None:
            raise RuntimeError("the process has no standard input")
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        seconds, count = json.loads(self._line())
        return float(seconds), int(count)

    def stop(self) -> None:
        """Lets the process end, and remove its files."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def _line(self) -> str:
        return self.process.stdout.readline() if self.process.stdout is not None else ""


def compared(before: Path, now: Path, pairs: int, only: str | None = None) -> Mapping[str, Any]:
    """Time now over time before, per mix: median and quartiles over pairs of turns; and of the fastest turn of each."""
    old, new = Checkout(before), Checkout(now)
    table = {}
    for name in old.names:
        if only is not None and only not in name:
            continue
        for checkout in (old, new, old, new):
            checkout.seconds(name)
        turns: dict[int, list[float]] = {id(old): [], id(new): []}
        counts = set()
        for pair in range(pairs):
            first, second = (old, new) if pair % 2 else (new, old)
            for checkout in (first, second):
                seconds, count = checkout.seconds(name)
                turns[id(checkout)].append(seconds)
                counts.add(count)
        if len(counts) != 1:
            raise AssertionError(f"{name}: the checkouts have {sorted(counts)} synthetic samples")
        was, now_is = turns[id(old)], turns[id(new)]
        low, middle, high = statistics.quantiles([b / a for a, b in zip(was, now_is, strict=True)], n=4)
        table[name] = {"ratio": middle, "ratio_q1": low, "ratio_q3": high, "ratio_of_fastest": min(now_is) / min(was)}
    for checkout in (old, new):
        checkout.stop()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="checkout to compare with")
    parser.add_argument("--pairs", type=int, default=25, help="pairs of turns for each mix")
    parser.add_argument("--only", help="only what has this in its name")
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
    table = compared(options.before.resolve(), Path.cwd(), options.pairs, options.only)
    publish("checkouts", {"before": commit, "pairs": options.pairs, "paths": table}, quick=options.quick)


if __name__ == "__main__":
    main()
