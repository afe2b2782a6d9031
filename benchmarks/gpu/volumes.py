"""3D latent diffusion with MONAI's networks: `MonaiSynthesizer` against MONAI's inferer, and in half precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import networks
from benchmarks.gpu.settings import Record, Settings
from benchmarks.gpu.smoke import distance
from benchmarks.harness import interleaved, ratios
from torchgenaug import MonaiSynthesizer, seeding

INFERER = "LatentDiffusionInferer"


def measure(settings: Settings, record: Record) -> None:
    """Volumes per second at equal steps, distances to the float32 volumes, and memory."""
    from monai.inferers import LatentDiffusionInferer
    from monai.networks.schedulers import DDIMScheduler

    side, batch, steps, latent = settings.pick((96, 2, 25, 3), (8, 1, 2, 2))
    unet_widths, decoder_widths = settings.pick(((64, 128, 256), (32, 64, 64)), ((4, 8), (4, 4)))
    net = networks.monai_unet(3, latent, unet_widths, attention=True).to(settings.device)
    autoencoder = networks.monai_autoencoder(3, latent, decoder_widths).to(settings.device)
    scheduler, seeds = DDIMScheduler(1000), list(range(batch))
    common: dict[str, Any] = {
        "size": (side,) * 3, "autoencoder": autoencoder, "steps": steps, "value_range": (0, 1), "clip": True
    }  # fmt: skip
    made = {
        name: MonaiSynthesizer(net, scheduler, **common, device=settings.device, dtype=dtype)
        for name, dtype in (("float32 (default)", None), ("half", settings.half), ("bfloat16", torch.bfloat16))
    }
    exact = made["float32 (default)"]

    def theirs() -> Tensor:
        noise = seeding.normal(seeding.derive(seeds, seeding.NOISE), exact.latent_shape, device=settings.device)
        scheduler.set_timesteps(steps)
        with torch.no_grad():
            volumes: Tensor = LatentDiffusionInferer(scheduler).sample(  # type: ignore[assignment]
                noise, autoencoder, net, scheduler, verbose=False
            )
        return (volumes / 2 + 0.5).clamp(0, 1)

    contestants: dict[str, Callable[[], Any]] = {INFERER: settings.finished(theirs)}
    contestants |= {name: settings.finished(partial(one.synthesize, seeds)) for name, one in made.items()}
    peaks = {}
    for name, call in contestants.items():
        settings.forget_peak()
        call()
        peaks[name] = settings.peak_mib()
    timings = interleaved(contestants, rounds=settings.pick(4, 1), warm_up=0)
    table: dict[str, Any] = ratios(timings, INFERER)
    expected = exact.synthesize(seeds)["image"]
    for name, timing in timings.items():
        found = made[name].synthesize(seeds)["image"] if name in made else theirs()
        table[name] |= {
            "volumes_per_s": batch / timing.median,
            "peak_mib": peaks[name],
            "distance": distance(found, expected),
        }
    record(f"{batch} volumes of {side} cubed, {steps} steps", table)
