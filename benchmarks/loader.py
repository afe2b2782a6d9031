"""What does `SyntheticMixLoader` cost, and what does it gain, over the loaders that it wraps?

1×64×64 float32 images with an int64 label, batch 64, shuffled; real labels are 0 and synthetic ones 1, so that a pass
can be checked. Four questions: µs per batch of the mixing itself; throughput over a loader that reads whole batches,
against the `DataLoader` that reads item by item; throughput with the real set behind two workers; and a training loop
on the CPU with a full pool against the same loop without mixing. Ratios are of samples per second: above 1 is faster
than the baseline.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from benchmarks.harness import Timing, interleaved, is_wanted, publish
from benchmarks.mixing import FIELDS, InMemory, InMemorySource
from torchgenaug import (
    FieldSpec,
    FunctionSynthesizer,
    ShardSource,
    SyntheticMixDataset,
    SyntheticMixLoader,
    SyntheticPool,
    SyntheticSequence,
    render_shards,
)

OVERHEAD, WHOLE = "mixing, µs per batch of 64", "over whole batches, 0 workers"
TRAINING, WORKERS = "training, full pool", "over 2 workers"
BATCH = 64
RATIOS = (0.25, 0.5, 0.9)


class WholeBatches(Dataset[tuple[Tensor, Tensor]]):
    """The same samples, read a batch at a time by one index operation."""

    def __init__(self, samples: InMemory) -> None:
        self.images, self.labels = samples.images, torch.tensor(samples.labels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor(indices)
        return self.images.index_select(0, rows), self.labels.index_select(0, rows)


def one_pass(loader: Iterable[Any]) -> tuple[int, int]:
    """Samples and synthetic samples of an epoch."""
    samples, synthetic = 0, torch.zeros((), dtype=torch.int64)
    for images, labels in loader:
        samples += len(images)
        synthetic += labels.sum()
    return samples, int(synthetic)


def noise(seeds: Sequence[int], conditions: Any) -> dict[str, Tensor]:
    """Samples that are cheap to make: what is measured is how they are read."""
    images = (torch.tensor([seed % 1000 for seed in seeds]) / 1000).reshape(-1, 1, 1, 1).expand(-1, 1, 64, 64)
    images = images * torch.linspace(0, 1, 64)
    return {"image": images.contiguous(), "label": torch.ones(len(seeds), dtype=torch.int64)}


class ByHand:
    """Whole batches with a quarter of their rows replaced, of the batch's own, as one writes it for one source only."""

    def __init__(self, loader: Iterable[Any], source: InMemorySource) -> None:
        self.loader, self.source = loader, source

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        position = 0
        for images, labels in self.loader:
            rows = torch.randperm(len(images))[: len(images) // 4]
            ids = torch.arange(position, position + len(rows)) % len(self.source.images)
            position += len(rows)
            # The loader's batch may be its data set's own memory, so it is copied.
            yield (
                images.index_copy(0, rows, self.source.images.index_select(0, ids)),
                labels.index_fill(0, rows, 1),
            )


def sequence() -> SyntheticSequence:
    fields = {"image": FieldSpec((1, 64, 64)), "label": FieldSpec((), torch.int64, kind="scalar")}
    return SyntheticSequence(FunctionSynthesizer(noise, fields, fingerprint="noise 1"))


def throughputs(timings: dict[str, Timing], counts: dict[str, int], baseline: str) -> dict[str, dict[str, float]]:
    """Samples per second over the baseline's, round by round: median and quartiles."""
    table = {}
    for name, timing in timings.items():
        relative = [
            (counts[name] / mine) / (counts[baseline] / base)
            for mine, base in zip(timing.seconds, timings[baseline].seconds, strict=True)
        ]
        low, middle, high = statistics.quantiles(relative, n=4)
        table[name] = {
            "us_per_sample": timing.median / counts[name] * 1e6,
            "throughput": middle,
            "throughput_q1": low,
            "throughput_q3": high,
        }
    return table


def compared(contestants: dict[str, Iterable[Any]], expected: dict[str, float], rounds: int) -> dict[str, Any]:
    """Passes over loaders, the first one being the baseline; `expected` is the synthetic fraction of each."""
    counts = {}
    for name, loader in contestants.items():
        counts[name], synthetic = one_pass(loader)
        if abs(synthetic - expected[name] * counts[name]) > 1:
            raise AssertionError(f"{name}: {synthetic} of {counts[name]} are synthetic, expected {expected[name]}")
    runs: dict[str, Callable[[], Any]] = {
        name: (lambda loader=loader: one_pass(loader)) for name, loader in contestants.items()
    }
    return throughputs(interleaved(runs, rounds=rounds), counts, next(iter(contestants)))


def overhead(batches: int, rounds: int) -> dict[str, Any]:
    """µs per batch that mixing adds, for images of 64×64 and, so that only the bookkeeping is left, of one pixel."""
    results: dict[str, Any] = {}
    for side in (1, 64):
        # Eight batches in turn: a loader has just written what it hands out, so it is in the cache.
        few = [[torch.rand(BATCH, 1, side, side), torch.zeros(BATCH, dtype=torch.int64)] for _ in range(8)]
        loader = [few[k % 8] for k in range(batches)]
        source = InMemorySource(InMemory(2000, 1))
        source.images = source.images[..., :side, :side].contiguous()
        source.fields = {**source.fields, "image": FieldSpec((1, side, side))}
        contestants: dict[str, Callable[[], Any]] = {"unmixed": lambda loader=loader: one_pass(loader)}
        for mode in ("replace", "extend"):
            for ratio in (0.0, *RATIOS):
                mix = SyntheticMixLoader(loader, source, ratio, mode=mode, fields=FIELDS)
                contestants[f"{mode} {ratio}"] = lambda mix=mix: one_pass(mix)
        timings = interleaved(contestants, rounds=rounds)
        base = timings.pop("unmixed")
        results[f"{side}×{side}"] = {
            name: statistics.median(
                (mine - plain) / batches * 1e6 for mine, plain in zip(timing.seconds, base.seconds, strict=True)
            )
            for name, timing in timings.items()
        }
    return results


def over_whole_batches(real: InMemory, source: Any, rounds: int) -> dict[str, Any]:
    item = DataLoader(real, BATCH, shuffle=True)
    whole = WholeBatches(real)
    batched = DataLoader(whole, sampler=BatchSampler(RandomSampler(whole), BATCH, False), batch_size=None)
    contestants: dict[str, Iterable[Any]] = {"item by item, unmixed": item, "whole batches, unmixed": batched}
    expected = dict.fromkeys(contestants, 0.0)
    if isinstance(source, InMemorySource):
        contestants["whole batches, by hand 0.25"] = ByHand(batched, source)
        expected["whole batches, by hand 0.25"] = 0.25
    for ratio in RATIOS:
        name = f"item by item, replace {ratio}"
        contestants[name] = SyntheticMixLoader(item, source, ratio, fields=FIELDS)
        expected[name] = ratio
    for mode in ("replace", "extend"):
        for ratio in RATIOS:
            name = f"whole batches, {mode} {ratio}"
            contestants[name] = SyntheticMixLoader(batched, source, ratio, mode=mode, fields=FIELDS)
            expected[name] = ratio
    return compared(contestants, expected, rounds)


def over_workers(real: InMemory, sources: dict[str, Any], workers: int, rounds: int) -> dict[str, Any]:
    def loader(dataset: Any) -> Any:
        return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    plain = loader(real)
    contestants: dict[str, Iterable[Any]] = {"unmixed": plain}
    expected = {"unmixed": 0.0}
    for kind, source in sources.items():
        name = f"extend 0.5, {kind}"
        contestants[name] = SyntheticMixLoader(plain, source, 0.5, mode="extend", fields=FIELDS)
        expected[name] = 0.5
    for ratio in RATIOS:
        name = f"replace {ratio}, in memory"
        contestants[name] = SyntheticMixLoader(plain, sources["in memory"], ratio, fields=FIELDS)
        expected[name] = ratio
    contestants["SyntheticMixDataset, extend 0.5"] = loader(
        SyntheticMixDataset(real, sources["in memory"], 0.5, mode="extend", fields=FIELDS)
    )
    expected["SyntheticMixDataset, extend 0.5"] = 0.5
    return compared(contestants, expected, rounds)


def in_training(real: InMemory, pool: SyntheticPool, steps: int, rounds: int) -> dict[str, Any]:
    """A small classifier on the CPU, the same number of samples with and without mixing."""
    some = torch.utils.data.Subset(real, range(steps * BATCH))
    plain = DataLoader(some, BATCH, shuffle=True)

    def train(loader: Iterable[Any]) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2),
        )  # fmt: skip
        optimizer = torch.optim.SGD(network.parameters(), 0.01)
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

    loaders = {"unmixed": plain}
    loaders |= {f"replace {r}": SyntheticMixLoader(plain, pool, r, fields=FIELDS) for r in RATIOS}
    timings = interleaved(
        {name: (lambda loader=loader: train(loader)) for name, loader in loaders.items()}, rounds=rounds
    )
    return throughputs(timings, dict.fromkeys(loaders, steps * BATCH), "unmixed")


def measure(*, quick: bool = False, only: str | None = None) -> dict[str, Any]:
    size, rounds = (640, 2) if quick else (16_000, 9)
    real, in_memory = InMemory(size, 0), InMemorySource(InMemory(size, 1))
    results: dict[str, Any] = {}
    if is_wanted(OVERHEAD, only):
        results[OVERHEAD] = overhead(20 if quick else 300, rounds)
    if is_wanted(WHOLE, only):
        results[WHOLE] = over_whole_batches(real, in_memory, rounds)
    where = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(dir=where) as folder,
        SyntheticPool(sequence(), size // 4, refresh=0, batch_size=BATCH) as pool,
    ):
        render_shards(sequence(), folder, size // 4, batch_size=BATCH)
        shards = ShardSource(folder)
        pool.set_epoch(0)
        if is_wanted(TRAINING, only):
            results[TRAINING] = in_training(real, pool, 4 if quick else 60, rounds)
        if not quick and is_wanted(WORKERS, only):
            time.sleep(2.5)  # until the shards are no longer new: of a new file all is compared in each read
            sources = {"in memory": in_memory, "pool": pool, "shards": shards}
            results[WORKERS] = over_workers(real, sources, 2, rounds)
    return publish("loader", results, quick=quick, only=only)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
