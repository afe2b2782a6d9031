"""How long does a training step take, and how much of it waits for data, on each path that synthetic samples may take?

A small U-Net (two levels, torch only) segments 1×64×64 images, a quarter of them synthetic; against the same training
on real data alone, without workers and with two. Steps and samples per step are the same everywhere. Synthetic images
carry a mark, so that it is checked how many of them were trained on.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import interleaved, publish, ratios
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

BATCH, SIDE, RATIO = 16, 64, 0.25
FIELDS = ("image", "mask")
MARK = 2.0


class UNet(nn.Module):
    """Two levels of 8 and 16 channels with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        fine = self.down(image)
        coarse = nn.functional.interpolate(self.deep(nn.functional.max_pool2d(fine, 2)), scale_factor=2.0)
        return self.up(torch.cat([fine, coarse], 1))  # type: ignore[no-any-return]


class Real(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, size: int) -> None:
        self.images = torch.rand(size, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        return image, (image > 0.5).long()


def marked(seeds: Sequence[int], conditions: Any) -> dict[str, Tensor]:
    images = torch.tensor([seed / 2**64 for seed in seeds]).reshape(-1, 1, 1, 1) * torch.linspace(0, 1, SIDE)
    images = images.expand(-1, 1, SIDE, SIDE).clone()
    images[:, :, 0, 0] = MARK
    return {"image": images, "mask": (images > 0.5).long()}


def sequence() -> SyntheticSequence:
    fields = {
        "image": FieldSpec((1, SIDE, SIDE)),
        "mask": FieldSpec((1, SIDE, SIDE), torch.int64, kind="label_map"),
    }
    return SyntheticSequence(FunctionSynthesizer(marked, fields, fingerprint="marked 1"))


def train(loader: Iterable[Any]) -> dict[str, float]:
    """One epoch: steps, synthetic samples, and the seconds that the loop waited for its batches."""
    torch.manual_seed(0)
    network = UNet()
    optimizer, waited, steps, synthetic = torch.optim.SGD(network.parameters(), 0.01), 0.0, 0, 0
    batches = iter(loader)
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - began
        if batch is None:
            return {"steps": steps, "waited": waited, "synthetic": synthetic}
        images, masks = batch
        synthetic += int((images[:, 0, 0, 0] == MARK).sum())
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(images), masks.float()).backward()
        optimizer.step()
        steps += 1


def loader_of(dataset: Any, workers: int) -> Any:
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def measure(*, quick: bool = False) -> dict[str, Any]:
    size, rounds = (4 * BATCH, 2) if quick else (24 * BATCH, 4)
    real = Real(size)
    log: dict[str, list[dict[str, float]]] = {}
    contestants: dict[str, Callable[[], Any]] = {}

    def add(name: str, loader: Any, movers: Sequence[Any] = ()) -> None:
        def epoch() -> None:
            number = len(log.setdefault(name, []))
            for mover in movers:
                mover.set_epoch(number)
            log[name].append(train(loader))

        contestants[name] = epoch

    with (
        tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder,
        SyntheticPool(sequence(), size // 2, batch_size=BATCH) as first,
        SyntheticPool(sequence(), size // 2, batch_size=BATCH) as second,
    ):
        render_shards(sequence(), folder, size // 2, batch_size=BATCH, progress=False, ranks=(0, 1))
        shards = ShardSource(folder)
        plain = {workers: loader_of(real, workers) for workers in (0, 2)}
        for workers in (0,) if quick else (0, 2):
            add(f"real alone, {workers} workers", plain[workers])
            mixed = SyntheticMixDataset(real, shards, RATIO, fields=FIELDS)
            add(f"SyntheticMixDataset, shards, {workers} workers", loader_of(mixed, workers), [mixed])
            over = SyntheticMixLoader(plain[workers], shards, RATIO, fields=FIELDS)
            add(f"SyntheticMixLoader, shards, {workers} workers", over)
        pooled = SyntheticMixDataset(real, first, RATIO, fields=FIELDS)
        add("SyntheticMixDataset, pool, 0 workers", loader_of(pooled, 0), [pooled])
        add("SyntheticMixLoader, pool, 0 workers", SyntheticMixLoader(plain[0], second, RATIO, fields=FIELDS))
        timings = interleaved(contestants, rounds=rounds)
    table = ratios(timings, "real alone, 0 workers")
    for name, entry in table.items():
        passes = log[name][1:]  # the first one is a warm-up
        seconds = timings[name].seconds
        entry["ms_per_step"] = 1e3 * timings[name].median / passes[0]["steps"]
        shares = [one["waited"] / took for one, took in zip(passes, seconds, strict=True)]
        entry["share_waiting"] = statistics.median(shares)
        expected = 0 if name.startswith("real") else round(RATIO * size)
        if any(one["steps"] != size // BATCH or one["synthetic"] != expected for one in log[name]):
            raise AssertionError(f"{name}: {log[name]}, expected {expected} synthetic samples")
    return publish("end_to_end", table, quick=quick)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
