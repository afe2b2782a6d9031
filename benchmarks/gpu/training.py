"""`fit` against the loop of diffusers' script for unconditional training, with the same network and batches.

Then the steps of both alone, in turn: milliseconds of each, and a profile of some: milliseconds of the device's
kernels, milliseconds of the processor in torch's operations, and those that take most. Where both are far below the
time of a step, it waits for Python.
"""

from __future__ import annotations

import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import profile

from benchmarks.gpu.settings import Record, Settings
from benchmarks.training_cost import diffusers_loop, fit_steps
from torchgenaug import FieldSpec
from torchgenaug.recipes import FitOptions, Options, TrainingData, fit
from torchgenaug.recipes.build import resolve_condition

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
    """Images per second of both, and their steps; of `fit` also with the augmentation that it has by default."""
    from accelerate.state import AcceleratorState

    precisions, nets = settings.pick(("no", "bf16"), ("no",)), {}
    for precision in precisions:
        ours, nets[precision] = fitted(settings, precision, augment=False)
        theirs = script(settings, precision, nets[precision])
        record(
            f"precision {precision}",
            {"fit_images_per_s": ours, "script_images_per_s": theirs, "ratio": ours / theirs},
        )
        AcceleratorState._reset_state(reset_partial_state=True)  # one process, one precision, unless it forgets
    for precision in precisions:
        record(f"precision {precision}, steps", step_times(settings, precision, nets[precision]))
        AcceleratorState._reset_state(reset_partial_state=True)
    if not settings.tiny:
        record("fit with augmentation, images per s", fitted(settings, "no", augment=True)[0])


def sizes(settings: Settings) -> tuple[int, int, int, int, int]:
    """Images, side, batch size, and steps of a short and a long run."""
    return settings.pick((512, 64, 64, 20, 80), (16, 8, 4, 1, 3))


def step_times(settings: Settings, precision: Any, net: nn.Module) -> dict[str, Any]:
    """Milliseconds of a step of both, each measured twice, in turn; and where the time goes."""
    steps = {"fit": fit_step(settings, precision), "script": script_step(settings, precision, net)}
    warm, blocks, each = settings.pick((5, 3, 20), (1, 1, 1))
    found: dict[str, Any] = {name: {"ms": []} for name in steps}
    for _ in range(2):
        for name, step in steps.items():
            for _ in range(warm):
                step()
            took = []
            for _ in range(blocks):
                settings.synchronize()
                began = time.perf_counter()
                for _ in range(each):
                    step()
                settings.synchronize()
                took.append(1e3 * (time.perf_counter() - began) / each)
            found[name]["ms"].append(statistics.median(took))
    for name, step in steps.items():
        found[name] |= profiled(step, settings.pick(6, 1), settings)
    return found


def profiled(step: Callable[[], Any], count: int, settings: Settings) -> dict[str, Any]:
    """Milliseconds of a step in torch's operations, and those that take most."""
    with profile() as found:
        for _ in range(count):
            step()
        settings.synchronize()
    rows = found.key_averages()
    sums: dict[str, Any] = {}
    for where in ("cpu", "device"):
        # An operation has the device time of its kernels, too, which are rows of their own.
        own = [row for row in rows if (row.device_type == DeviceType.CPU) == (where == "cpu")]
        taken = {row.key[:60]: getattr(row, f"self_{where}_time_total") / 1e3 / count for row in own}
        largest = sorted(taken.items(), key=lambda item: -item[1])[:_SHOWN]
        sums[f"{where}_ms"] = sum(taken.values())
        sums[f"{where}_most_ms"] = {name: round(spent, 3) for name, spent in largest if spent}
    return {**sums, "calls": sum(row.count for row in rows) / count}


def _data(settings: Settings) -> TrainingData:
    count, side, *_ = sizes(settings)
    names = tuple(f"image {k}" for k in range(count))
    return TrainingData(
        Images(count, side), {"image": FieldSpec((1, side, side), value_range=(-1, 1))}, names, "smooth"
    )


def fit_step(settings: Settings, precision: Any) -> Callable[[], Any]:
    """A step of the loop of `fit`."""
    data, batch_size = _data(settings), sizes(settings)[2]
    options = resolve_condition(
        "ddpm", data, Options(steps=1000, batch_size=batch_size, width=settings.pick(64, 8), sampling_steps=2)
    )
    accelerator = Accelerator(cpu=settings.device.type == "cpu", mixed_precision=precision)
    return fit_steps(data, options, augment=False, accelerator=accelerator)[0]


def fitted(settings: Settings, precision: Any, *, augment: bool) -> tuple[float, nn.Module]:
    """Images per second, from the difference of a long and a short run: start and report take the same in both.

    NaN where the long run was no longer, as happens in the tiny version.
    """
    _, _, batch_size, *runs = sizes(settings)
    data = _data(settings)
    options = FitOptions(precision=precision, augment=augment, reports=1)
    device = "cpu" if settings.device.type == "cpu" else None
    took: list[float] = []
    net: Any = None
    for steps in (runs[0], *runs):  # the first warms up
        recipe = Options(steps=steps, batch_size=batch_size, width=settings.pick(64, 8), sampling_steps=2)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            result = fit("ddpm", data, Path(folder), recipe=recipe, options=options, device=device, progress=False)
            settings.synchronize()
            took.append(time.perf_counter() - began)
            net = result.synthesizer.unet
    longer_s = took[2] - took[1]
    return (runs[1] - runs[0]) * batch_size / longer_s if longer_s > 0 else math.nan, net


def script(settings: Settings, precision: Any, given: nn.Module) -> float:
    """Images per second of the script's loop."""
    _, _, batch_size, warm_up, steps = sizes(settings)
    step = script_step(settings, precision, given)
    began = 0.0
    for done in range(steps):
        if done == warm_up:
            settings.synchronize()
            began = time.perf_counter()
        step()
    settings.synchronize()
    return (steps - warm_up) * batch_size / (time.perf_counter() - began)


def script_step(settings: Settings, precision: Any, given: nn.Module) -> Callable[[], Any]:
    """A step of the script's loop, on a copy of the network."""
    accelerator = Accelerator(cpu=settings.device.type == "cpu", mixed_precision=precision)
    model = copy.deepcopy(given).float().requires_grad_(True).train()
    return diffusers_loop(model, _data(settings), sizes(settings)[2], accelerator=accelerator).step
