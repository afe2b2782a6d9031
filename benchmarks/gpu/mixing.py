"""A training loop with a quarter of its samples from a full pool, against the same loop without (target: 0.99)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.gpu.loop import FIELDS, Repeated, Training, loader, noise_sequence
from benchmarks.gpu.settings import Record, Settings
from benchmarks.harness import interleaved, throughput_ratios
from torchgenaug import SyntheticMixDataset, SyntheticMixLoader, SyntheticPool

RATIO = 0.25


def measure(settings: Settings, record: Record) -> None:
    """Samples per second over those of the unmixed loop of the same round, for networks of two sizes."""
    for width, workers in ((64, 0), (16, 0), (64, 4)) if not settings.tiny else ((4, 0), (4, 1)):
        record(f"classifier of width {width}, {workers} workers", with_a_full_pool(settings, width, workers))


def with_a_full_pool(settings: Settings, width: int, workers: int) -> dict[str, Any]:
    side, batch_size, steps = settings.pick((128, 64, 60), (8, 4, 3))
    real = Repeated(side, steps * batch_size)
    sequence, capacity = noise_sequence(settings, side), settings.pick(1024, 8)
    frozen: dict[str, Any] = {"refresh": 0, "batch_size": batch_size}
    with (
        SyntheticPool(sequence, capacity, **frozen, device=settings.device) as on_device,
        SyntheticPool(sequence, capacity, **frozen) as on_host,
    ):
        on_device.set_epoch(0)
        on_host.set_epoch(0)
        dataset = SyntheticMixDataset(real, on_host, RATIO, fields=FIELDS)
        plain = partial(loader, settings, real, batch_size, workers)
        mixed = partial(SyntheticMixLoader, fields=FIELDS, device=settings.device)
        loaders: dict[str, Any] = {
            "unmixed": plain(),
            "SyntheticMixLoader, pool on the device": mixed(plain(), on_device, RATIO),
            "SyntheticMixLoader, pool in host memory": mixed(plain(), on_host, RATIO),
            "SyntheticMixDataset, pool in host memory": loader(settings, dataset, batch_size, workers),
        }
        training, epochs = Training(settings, width), iter(range(10**6))

        def run(name: str) -> None:
            if name.startswith("SyntheticMixDataset"):
                dataset.set_epoch(next(epochs))
            assert training.epoch(loaders[name]) == len(real)

        contestants: dict[str, Callable[[], Any]] = {name: partial(run, name) for name in loaders}
        timings = interleaved(contestants, rounds=settings.pick(7, 2))
    return throughput_ratios(timings, dict.fromkeys(loaders, len(real)), "unmixed")
