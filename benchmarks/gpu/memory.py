"""Memory: weights that rest in host memory, a limit for the generating process, smaller calls after it ran out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu import networks
from benchmarks.gpu.settings import Record, Settings
from benchmarks.gpu.smoke import distance
from torchgenaug import (
    DiffusersSynthesizer,
    FieldSpec,
    FunctionSynthesizer,
    ModuleSynthesizer,
    SyntheticPool,
    SyntheticSequence,
    seeding,
)


def measure(settings: Settings, record: Record) -> None:
    """One result for each of the three."""
    for offload in (False, True):
        record(f"offload={offload}", rested(settings, offload=offload))
    record("smaller calls in a thread", in_a_thread(settings))
    record("memory limit of a process", in_a_process(settings))


def rested(settings: Settings, *, offload: bool) -> dict[str, Any]:
    """A model of 256 MiB: what it leaves free while the pool is full, and what a refresh costs."""
    width = settings.pick(1 << 13, 16)
    module = networks.seeded(
        lambda: torch.nn.Sequential(
            torch.nn.Linear(64, width), torch.nn.Linear(width, width), torch.nn.Linear(width, 64), torch.nn.Tanh()
        ).append(torch.nn.Unflatten(1, (1, 8, 8)))
    )
    settings.forget_peak()
    before = settings.allocated_mib() or 0.0
    synthesizer = ModuleSynthesizer(module, latent_shape=(64,), value_range=(-1, 1), device=settings.device)
    sequence = SyntheticSequence(synthesizer)
    expected = sequence.batch(range(32, 48))["image"].cpu()
    with_model = settings.allocated_mib()
    options: dict[str, Any] = {"refresh": 1.0, "batch_size": 16, "device": settings.device, "offload": offload}
    with SyntheticPool(sequence, 16, **options) as pool:
        began = time.perf_counter()
        for epoch in range(3):
            pool.set_epoch(epoch)
        refresh_s = (time.perf_counter() - began) / 3
        assert torch.equal(pool.read(np.arange(16))["image"].cpu(), expected), "the pool holds other samples"
        resting = _lowest(settings)
        peak = settings.peak_mib()
    taken = {"with_model_mib": with_model, "resting_mib": resting, "peak_mib": peak}
    above = {name: None if value is None else round(value - before, 1) for name, value in taken.items()}
    return above | {"refresh_s": refresh_s}


def _lowest(settings: Settings) -> float | None:
    """Least memory within two seconds: the pool's thread puts the weights away when nothing is missing."""
    if not settings.is_cuda:
        return None
    until, least = time.monotonic() + 2, float("inf")
    while time.monotonic() < until:
        least = min(least, settings.allocated_mib() or 0.0)
        time.sleep(0.02)
    return least


def in_a_thread(settings: Settings) -> dict[str, Any]:
    """A batch that does not fit: the calls are halved until they do."""
    if not settings.is_cuda:
        return halved(hungry(), 8)
    synthesizer = diffusion(settings)
    sequence = SyntheticSequence(synthesizer)
    settings.forget_peak()
    sequence.batch(range(16))
    for_16_mib = settings.peak_mib() or 0.0
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(settings.device).total_memory
    # Room for about twice as many as 16, where 128 are asked for.
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2.2 * for_16_mib * 2**20 / total), settings.device)
    try:
        found = halved(sequence, 128)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, settings.device)
    return found | {"peak_of_16_mib": for_16_mib}


def halved(sequence: SyntheticSequence, batch_size: int) -> dict[str, Any]:
    count = min(4, batch_size)
    expected = torch.cat([sequence.batch([k])["image"].cpu() for k in range(count)])
    with SyntheticPool(sequence, batch_size, refresh=0, batch_size=batch_size) as pool:
        pool.set_epoch(0)
        found, stats = pool.read(np.arange(count))["image"], pool.stats
    assert stats.memory_failures > 0, "memory did not run out"
    assert stats.call_size < batch_size, stats
    return {
        "asked": batch_size,
        "call_size": stats.call_size,
        "memory_failures": stats.memory_failures,
        "distance": distance(found, expected),
        "seconds": stats.fill_s,
    }


def hungry() -> SyntheticSequence:
    """On a CPU: a function that claims to run out of memory above two samples."""

    def draw(seeds: Any, conditions: Any = None) -> dict[str, Tensor]:
        if len(seeds) > 2:
            raise torch.OutOfMemoryError("more than two samples")
        return {"image": seeding.normal(seeds, (1, 8, 8))}

    return SyntheticSequence(FunctionSynthesizer(draw, {"image": FieldSpec((1, 8, 8))}, fingerprint="hungry 1"))


def diffusion(settings: Settings) -> DiffusersSynthesizer:
    from diffusers import DDIMScheduler

    side, widths = settings.pick((128, (64, 128)), (8, (4, 8)))
    net = networks.unet(widths, side)
    options: dict[str, Any] = {"steps": 2, "value_range": (0, 1), "clip": True, "device": settings.device}
    return DiffusersSynthesizer(net, DDIMScheduler(), **options)


def in_a_process(settings: Settings) -> dict[str, Any]:
    """A process that may take 3 GiB: what it takes, and how many samples it makes at once."""
    batch_size = settings.pick(128, 4)
    sequence = SyntheticSequence(diffusion(settings))
    limit: Any = 3 << 30 if settings.is_cuda else 0.9
    expected = sequence.batch(range(4))["image"].cpu()
    options: dict[str, Any] = {"background": "process", "memory_limit": limit}
    began = time.perf_counter()
    with SyntheticPool(sequence, batch_size, refresh=0, batch_size=batch_size, **options) as pool:
        pool.set_epoch(0)
        stats, found = pool.stats, pool.read(np.arange(4))["image"]
    return {
        "limit": limit,
        "asked": batch_size,
        "call_size": stats.call_size,
        "memory_failures": stats.memory_failures,
        "distance": distance(found, expected),
        "seconds_with_start": time.perf_counter() - began,
    }
