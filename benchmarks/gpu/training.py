"""`fit` against the loop of diffusers' script for unconditional training, with the same network and batches.

Of both, a profile of a short run, start and report included: seconds of the device, seconds of the processor in torch's
operations, and the operations that take most. Where both are far below the time of the run, it waits for Python.
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import profile
from torch.utils.data import DataLoader

from benchmarks.gpu.settings import Record, Settings
from torchgenaug import FieldSpec
from torchgenaug.recipes import FitOptions, Options, TrainingData, fit

_SHOWN = 12


class Images:
    """Smooth images in memory: (1, side, side) float32 in [-1, 1]."""

    def __init__(self, count: int, side: int) -> None:
        coarse = torch.rand((count, 1, 4, 4), generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.images = nn.functional.interpolate(coarse, (side, side), mode="bilinear")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        return {"image": self.images[index]}


def measure(settings: Settings, record: Record) -> None:
    """Images per second of both; of `fit` also with the augmentation that it has by default."""
    from accelerate.state import AcceleratorState

    for precision in settings.pick(("no", "bf16"), ("no",)):
        ours, net = fitted(settings, precision, augment=False)
        theirs = script(settings, precision, net)
        found = {"fit_images_per_s": ours, "script_images_per_s": theirs, "ratio": ours / theirs}
        record(f"precision {precision}", found)
        short = {"fit": partial(fitted, augment=False), "script": partial(script, given=net)}
        for name, call in short.items():
            record(
                f"precision {precision}, profile of {name}", profiled(partial(call, settings, precision, short=True))
            )
        AcceleratorState._reset_state(reset_partial_state=True)  # one process, one precision, unless it forgets
    if not settings.tiny:
        record("fit with augmentation, images per s", fitted(settings, "no", augment=True)[0])


def sizes(settings: Settings) -> tuple[int, int, int, int, int]:
    """Images, side, batch size, and steps of a short and a long run."""
    return settings.pick((512, 64, 64, 20, 80), (16, 8, 4, 1, 3))


def profiled(call: Callable[[], Any]) -> dict[str, Any]:
    """Seconds, and the operations that take most of them, of a call."""
    with profile() as found:
        call()
    rows = found.key_averages()
    sums: dict[str, Any] = {}
    for where in ("cpu", "device"):
        taken = {row.key[:60]: getattr(row, f"self_{where}_time_total") / 1e6 for row in rows}
        largest = sorted(taken.items(), key=lambda item: -item[1])[:_SHOWN]
        sums[f"{where}_s"] = sum(taken.values())
        sums[f"{where}_most"] = {name: round(seconds, 4) for name, seconds in largest if seconds}
    return {**sums, "calls": sum(row.count for row in rows)}


def fitted(settings: Settings, precision: Any, *, augment: bool, short: bool = False) -> tuple[float, nn.Module]:
    """Images per second, from the difference of a long and a short run: start and report take the same in both.

    NaN where the long run was no longer, as happens in the tiny version.
    """
    count, side, batch_size, *runs = sizes(settings)
    names = tuple(f"image {k}" for k in range(count))
    data = TrainingData(
        Images(count, side), {"image": FieldSpec((1, side, side), value_range=(-1, 1))}, names, "smooth"
    )
    options = FitOptions(precision=precision, augment=augment, reports=1)
    device = "cpu" if settings.device.type == "cpu" else None
    took: list[float] = []
    net: Any = None
    for steps in runs[:1] if short else (runs[0], *runs):  # the first warms up
        recipe = Options(steps=steps, batch_size=batch_size, width=settings.pick(64, 8), sampling_steps=2)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            result = fit("ddpm", data, Path(folder), recipe=recipe, options=options, device=device, progress=False)
            settings.synchronize()
            took.append(time.perf_counter() - began)
            net = result.synthesizer.unet
    longer_s = 0.0 if short else took[2] - took[1]
    return (runs[1] - runs[0]) * batch_size / longer_s if longer_s > 0 else math.nan, net


def script(settings: Settings, precision: Any, given: nn.Module, *, short: bool = False) -> float:
    """Images per second of the loop in diffusers' examples/unconditional_image_generation/train_unconditional.py."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    count, side, batch_size, warm_up, steps = sizes(settings)
    warm_up, steps = (0, warm_up) if short else (warm_up, steps)
    accelerator = Accelerator(cpu=settings.device.type == "cpu", mixed_precision=precision)
    model: Any = copy.deepcopy(given).float().requires_grad_(True).train()
    ema = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True)
    ema.to(accelerator.device)
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    loader: Any = DataLoader(Images(count, side), batch_size, shuffle=True, drop_last=True)  # type: ignore[arg-type]
    rate = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=5, num_training_steps=steps)
    model, optimizer, loader, rate = accelerator.prepare(model, optimizer, loader, rate)
    done, began = 0, 0.0
    while done < steps:
        for batch in loader:
            if done == warm_up:
                settings.synchronize()
                began = time.perf_counter()
            clean = batch["image"]
            noise = torch.randn(clean.shape, device=clean.device)
            times = torch.randint(0, 1000, (len(clean),), device=clean.device)
            loss = nn.functional.mse_loss(model(scheduler.add_noise(clean, noise, times), times).sample, noise)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            ema.step(model.parameters())
            loss.detach().item()  # the script logs it at each step
            done += 1
            if done == steps:
                break
    settings.synchronize()
    return (steps - warm_up) * batch_size / (time.perf_counter() - began)
