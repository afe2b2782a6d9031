"""What does it cost to generate while training: with a pool, and as users write it without one?

1. A training loop with a full pool, against the same loop without mixing (samples per second).
2. On a GPU: training while the pool is refreshed in the background, over training alone plus generating alone (below
   1: some of the one is hidden behind the other), and the seconds that the loop waited.
3. Epochs with a quarter of the samples made by a diffusers pipeline: one per ``__getitem__``, a batch per step, and by
   a pool. How many samples each made is stated: a pool that keeps three quarters of its samples makes fewer.
4. µs per batch that `SyntheticMixLoader` adds to a loader's, from a pool.

In 2 and 3 the synthesizer is a small diffusion UNet on 1×32×32; the training is a small convolutional classifier. Sizes
are those of a CPU; on a GPU everything runs there.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.harness import interleaved, is_wanted, publish, ratios
from benchmarks.loader import BATCH, one_pass, sequence, throughputs
from benchmarks.mixing import FIELDS, InMemory
from torchgenaug import (
    DiffusersSynthesizer,
    SyntheticMixDataset,
    SyntheticMixLoader,
    SyntheticPool,
    SyntheticSequence,
)

SIDE, RATIO = 32, 0.25
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def classifier(width: int = 16) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 2),
    ).to(DEVICE)  # fmt: skip


def train(images: Iterable[Tensor], width: int = 16) -> int:
    """One pass of a small classifier (is an image brighter than average?); how many samples it saw."""
    torch.manual_seed(0)
    network = classifier(width)
    optimizer, seen = torch.optim.SGD(network.parameters(), 0.01), 0
    for batch in images:
        there = batch.to(DEVICE, non_blocking=True)
        optimizer.zero_grad()
        labels = (there.mean((1, 2, 3)) > 0.5).long()
        nn.functional.cross_entropy(network(there), labels).backward()
        optimizer.step()
        seen += len(batch)
    synchronize()
    return seen


def with_a_full_pool(steps: int, rounds: int) -> dict[str, Any]:
    real = InMemory(steps * BATCH, 0)
    plain = DataLoader(real, BATCH, shuffle=True)
    device = None if DEVICE.type == "cpu" else DEVICE
    with (
        SyntheticPool(sequence(), 1000, refresh=0, batch_size=BATCH, device=device) as pool,
        SyntheticPool(sequence(), 1000, refresh=0, batch_size=BATCH) as shared,
    ):
        pool.set_epoch(0)
        shared.set_epoch(0)
        dataset = SyntheticMixDataset(real, shared, RATIO, fields=FIELDS)
        loaders: dict[str, Iterable[Any]] = {
            "unmixed": plain,
            "SyntheticMixLoader": SyntheticMixLoader(plain, pool, RATIO, fields=FIELDS, device=device),
            "SyntheticMixDataset": DataLoader(dataset, BATCH, shuffle=True),
        }
        epochs = iter(range(10**6))

        def run(name: str) -> None:
            if name == "SyntheticMixDataset":
                dataset.set_epoch(next(epochs))
            assert train(images for images, _ in loaders[name]) == len(real)

        contestants: dict[str, Callable[[], Any]] = {name: (lambda name=name: run(name)) for name in loaders}
        return throughputs(interleaved(contestants, rounds=rounds), dict.fromkeys(loaders, len(real)), "unmixed")


def unet(width: int) -> Any:
    import diffusers

    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        block_out_channels=(width, 2 * width),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()


def diffusion(width: int, steps: int) -> tuple[SyntheticSequence, Any]:
    """The same model as a sequence of ours and as diffusers' pipeline."""
    import diffusers

    net, scheduler = unet(width).to(DEVICE), diffusers.DDIMScheduler()
    synthesizer = DiffusersSynthesizer(net, scheduler, steps=steps, value_range=(0, 1), clip=True, device=DEVICE)
    pipeline = diffusers.DDIMPipeline(net, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return SyntheticSequence(synthesizer), pipeline


class OnePerItem(Dataset[Tensor]):
    """What users write: some items are made when they are asked for."""

    def __init__(self, real: Tensor, pipeline: Any, steps: int) -> None:
        self.real, self.pipeline, self.steps, self.made = real, pipeline, steps, 0

    def __len__(self) -> int:
        return len(self.real)

    def __getitem__(self, index: int) -> Tensor:
        if index % round(1 / RATIO):
            return self.real[index]
        self.made += 1
        made = self.pipeline(batch_size=1, num_inference_steps=self.steps, output_type="np").images
        return torch.from_numpy(made[0]).permute(2, 0, 1)


class OneBatchPerStep:
    """What users write next: real batches, and a call of the pipeline for each."""

    def __init__(self, real: Tensor, batch_size: int, pipeline: Any, steps: int) -> None:
        self.count = round(RATIO * batch_size)
        self.loader = DataLoader(TensorDataset(real), batch_size - self.count, shuffle=True, drop_last=True)
        self.pipeline, self.steps, self.made = pipeline, steps, 0

    def epoch(self, steps: int) -> Iterable[Tensor]:
        for _, (real,) in zip(range(steps), self.loader, strict=False):
            self.made += self.count
            made = self.pipeline(batch_size=self.count, num_inference_steps=self.steps, output_type="np").images
            yield torch.cat([real, torch.from_numpy(made).permute(0, 3, 1, 2)])


def against_what_users_write(size: int, denoising_steps: int, epochs: int, rounds: int) -> dict[str, Any]:
    batch_size = 16
    real = torch.rand(size, 1, SIDE, SIDE)
    ours, pipeline = diffusion(8, denoising_steps)
    made: dict[str, int] = {}

    def unmixed() -> None:
        for _ in range(epochs):
            train(images for (images,) in DataLoader(TensorDataset(real), batch_size, shuffle=True))

    def per_item() -> None:
        dataset = OnePerItem(real, pipeline, denoising_steps)
        for _ in range(epochs):
            train(DataLoader(dataset, batch_size, shuffle=True))
        made["one sample per __getitem__"] = dataset.made

    def per_step() -> None:
        batches = OneBatchPerStep(real, batch_size, pipeline, denoising_steps)
        for _ in range(epochs):
            train(batches.epoch(size // batch_size))
        made["one batch per step"] = batches.made

    def pooled(name: str, refresh: float, **options: bool) -> None:
        # As many as an epoch has synthetic samples: with refresh=1 each is seen once, as in the loops above.
        capacity = round(RATIO * size)
        with SyntheticPool(ours, capacity, refresh=refresh, batch_size=32, **options) as pool:
            dataset = SyntheticMixDataset(TensorDataset(real), pool, RATIO, fields=["image"])
            for epoch in range(epochs):
                dataset.set_epoch(epoch)
                train(images for (images,) in DataLoader(dataset, batch_size, shuffle=True))
        made[name] = pool.stats.generated

    contestants: dict[str, Callable[[], Any]] = {
        "training alone": unmixed,
        "one sample per __getitem__": per_item,
        "one batch per step": per_step,
    }
    for refresh in (1.0, 0.25):
        for name, options in (("in a thread", {}), ("without background", {"background": False})):
            title = f"pool, refresh {refresh}, {name}"
            contestants[title] = lambda t=title, r=refresh, o=options: pooled(t, r, **o)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an untrained network's images look like nothing; diffusers' deprecations
        timings = interleaved(contestants, rounds=rounds)
    table: dict[str, Any] = ratios(timings, "one sample per __getitem__")
    for name, count in made.items():
        table[name]["samples_made"] = count
    return table


def refreshed_while_training(quick: bool) -> dict[str, Any]:
    steps, epochs, capacity = (4, 2, 64) if quick else (200, 3, 1024)
    real = InMemory(steps * BATCH, 0)
    images = TensorDataset(torch.rand(len(real), 1, SIDE, SIDE))
    ours, _ = diffusion(16 if quick else 64, 20)
    loader = DataLoader(images, BATCH, shuffle=True, pin_memory=DEVICE.type == "cuda")

    def epochs_with(pool: SyntheticPool, *, moves: bool) -> float:
        mixed = SyntheticMixLoader(loader, pool, RATIO, fields=["image"], device=DEVICE)
        pool.set_epoch(0)
        train((batch for (batch,) in mixed), 64)  # warms up
        synchronize()
        began = time.perf_counter()
        for epoch in range(1, epochs + 1):
            if moves:
                mixed.set_epoch(epoch)
            train((batch for (batch,) in mixed), 64)
        return time.perf_counter() - began

    def generating() -> float:
        ours.batch(range(BATCH))
        synchronize()
        began = time.perf_counter()
        for start in range(0, epochs * capacity, BATCH):
            ours.batch(range(start, start + BATCH))
        synchronize()
        return time.perf_counter() - began

    results: dict[str, Any] = {}
    for background in (True, "process"):
        with SyntheticPool(ours, capacity, refresh=0, batch_size=BATCH, device=DEVICE) as frozen:
            alone = epochs_with(frozen, moves=False)
        made = generating()
        options = {"batch_size": BATCH, "device": DEVICE, "background": background}
        with SyntheticPool(ours, capacity, refresh=1.0, **options) as pool:
            pool.set_epoch(0)
            before = pool.stats.wait_s
            both = epochs_with(pool, moves=True)
            waited = pool.stats.wait_s - before
        results["in a thread" if background is True else "in a process"] = {
            "training_s": alone,
            "generating_s": made,
            "both_s": both,
            "ratio": both / (alone + made),
            "waited_s": waited,
        }
    return results


def mixing_overhead(batches: int, rounds: int) -> dict[str, float]:
    """µs per batch of 64 images of 64×64; the real batches are in the cache, as where a loader has just made them."""
    few = [[torch.rand(BATCH, 1, 64, 64), torch.zeros(BATCH, dtype=torch.int64)] for _ in range(8)]
    loader = [few[k % 8] for k in range(batches)]
    with SyntheticPool(sequence(), 1000, refresh=0, batch_size=BATCH) as pool:
        pool.set_epoch(0)
        contestants: dict[str, Callable[[], Any]] = {"unmixed": lambda: one_pass(loader)}
        for mode in ("replace", "extend"):
            for ratio in (0.25, 0.5):
                mix = SyntheticMixLoader(loader, pool, ratio, mode=mode, fields=FIELDS)
                contestants[f"{mode} {ratio}"] = lambda mix=mix: one_pass(mix)
        timings = interleaved(contestants, rounds=rounds)
    base = timings.pop("unmixed")
    return {
        name: statistics.median(
            (mine - plain) / batches * 1e6 for mine, plain in zip(timing.seconds, base.seconds, strict=True)
        )
        for name, timing in timings.items()
    }


def measure(*, quick: bool = False, only: str | None = None) -> dict[str, Any]:
    rounds = 2 if quick else 7
    parts: dict[str, Callable[[], Any]] = {
        "training, full pool": lambda: with_a_full_pool(4 if quick else 60, rounds),
        "training and refreshing, on a GPU": lambda: (
            refreshed_while_training(quick) if DEVICE.type == "cuda" else {"absent": "no CUDA device"}
        ),
        "epochs with a quarter from a diffusion model": lambda: against_what_users_write(
            *((32, 2, 1) if quick else (256, 10, 3)), rounds=2 if quick else 5
        ),
        "mixing, µs per batch of 64": lambda: mixing_overhead(20 if quick else 300, rounds),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # random images do not look like each other
        results = {name: part() for name, part in parts.items() if is_wanted(name, only)}
    return publish("pool", results, quick=quick, only=only)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
