"""Generating while training as people write it: a sample per ``__getitem__``, a batch per step; and by a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from benchmarks.generator import quiet_pipeline
from benchmarks.gpu import networks
from benchmarks.gpu.loop import Repeated, Training, loader
from benchmarks.gpu.settings import Record, Settings
from benchmarks.harness import interleaved, ratios
from torchgenaug import DiffusersSynthesizer, SyntheticMixLoader, SyntheticPool, SyntheticSequence

RATIO = 0.25
PER_ITEM = "one sample per __getitem__"


def measure(settings: Settings, record: Record) -> None:
    """Seconds of two epochs with a quarter of the samples made by a diffusion model, and how many each made."""
    side, batch_size, steps, epochs = settings.pick((64, 64, 10, 2), (8, 4, 2, 1))
    widths, size = settings.pick(((64, 128, 256), 256), ((4, 8), 8))
    from diffusers import DDIMScheduler

    net = networks.unet(widths, side).to(settings.device)
    pipeline = quiet_pipeline(net, DDIMScheduler())
    options: dict[str, Any] = {"steps": steps, "value_range": (0, 1), "clip": True, "device": settings.device}
    sequence = SyntheticSequence(DiffusersSynthesizer(net, DDIMScheduler(), **options))
    images = Repeated(side, size).images
    real, training, made = TensorDataset(images), Training(settings, settings.pick(64, 4)), dict[str, int]()
    sample = partial(pipeline, num_inference_steps=steps, output_type="np")

    def alone() -> None:
        for _ in range(epochs):
            training.epoch(loader(settings, real, batch_size))

    def per_item() -> None:
        data = OnePerItem(real, sample)
        for _ in range(epochs):
            training.epoch(loader(settings, data, batch_size))
        made[PER_ITEM] = data.made

    def per_step() -> None:
        batches = OneBatchPerStep(settings, real, batch_size, sample)
        for _ in range(epochs):
            training.epoch(batches)
        made["one batch per step"] = batches.made

    def pooled(refresh: float, background: Any) -> None:
        name = pool_name(refresh, background)
        given: dict[str, Any] = {"refresh": refresh, "background": background, "device": settings.device}
        with SyntheticPool(sequence, round(RATIO * size), batch_size=batch_size, **given) as pool:
            mix = SyntheticMixLoader(
                loader(settings, real, batch_size), pool, RATIO, fields=["image"], device=settings.device
            )
            for epoch in range(epochs):
                mix.set_epoch(epoch)
                training.epoch(mix)
            made[name] = pool.stats.generated

    contestants: dict[str, Callable[[], Any]] = {"training alone": alone, PER_ITEM: per_item}
    contestants["one batch per step"] = per_step
    for refresh in (1.0, 0.25):
        for background in (True, False):
            contestants[pool_name(refresh, background)] = partial(pooled, refresh, background)
    sample(batch_size=1)
    training.epoch(loader(settings, real, batch_size))
    timings = interleaved(contestants, rounds=settings.pick(2, 1), warm_up=0)
    table: dict[str, Any] = ratios(timings, PER_ITEM)
    for name, count in made.items():
        table[name]["samples_made"] = count
    record("epochs with a quarter from a diffusion model", table)


def pool_name(refresh: float, background: Any) -> str:
    return f"pool, refresh {refresh}, {'in a thread' if background else 'without background'}"


class OnePerItem(Dataset[tuple[Tensor]]):
    """What users write: some items are made when they are asked for."""

    def __init__(self, real: TensorDataset, sample: Callable[..., Any]) -> None:
        self.real, self.sample, self.made = real, sample, 0

    def __len__(self) -> int:
        return len(self.real)

    def __getitem__(self, index: int) -> tuple[Tensor]:
        if index % round(1 / RATIO):
            return (self.real[index][0],)
        self.made += 1
        images = self.sample(batch_size=1).images
        return (torch.from_numpy(images[0]).permute(2, 0, 1),)


class OneBatchPerStep:
    """What users write next: real batches, and a call of the pipeline for each."""

    def __init__(self, settings: Settings, real: TensorDataset, batch_size: int, sample: Callable[..., Any]) -> None:
        self.count = round(RATIO * batch_size)
        self.steps = len(real) // batch_size
        self.loader, self.sample, self.made = loader(settings, real, batch_size - self.count), sample, 0

    def __iter__(self) -> Iterator[tuple[Tensor]]:
        for _, (images,) in zip(range(self.steps), self.loader, strict=False):
            self.made += self.count
            made = torch.from_numpy(self.sample(batch_size=self.count).images).permute(0, 3, 1, 2)
            yield (torch.cat([images, made]),)
