"""`DiffusersSynthesizer` against diffusers' own pipeline at equal steps, and what each option adds and changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

import torchgenaug
from benchmarks.generator import quiet_pipeline, sample_pipeline, sample_with_our_noise, unet_config
from benchmarks.gpu import networks
from benchmarks.gpu.settings import Record, Settings
from benchmarks.gpu.smoke import distance
from benchmarks.harness import interleaved, ratios
from torchgenaug import DiffusersSynthesizer, load_synthesizer

PIPELINE = "DDIMPipeline"
DEFAULT = "float32 (default)"


def measure(settings: Settings, record: Record) -> None:
    """Without compilation, which is a step of its own."""
    plain = plain_options(settings)
    large, small = settings.pick((64, 8), (2, 1))
    record(f"batch {large}", compared(settings, large, plain))
    record("few steps of a trained model", few_steps(settings))
    record(f"batch {small}", compared(settings, small, plain))


def plain_options(settings: Settings) -> dict[str, dict[str, Any]]:
    half = {"dtype": settings.half}
    found: dict[str, dict[str, Any]] = {
        DEFAULT: {},
        "channels last": {"channels_last": True},
        "half precision": half,
        "bfloat16": {"dtype": torch.bfloat16},
        "half precision, channels last": {**half, "channels_last": True},
    }
    if settings.is_cuda:
        found |= {
            "CUDA graph": {"cuda_graph": True},
            "half precision, CUDA graph": {**half, "cuda_graph": True},
            "half precision, channels last, CUDA graph": {**half, "channels_last": True, "cuda_graph": True},
        }
    return found


def compared(settings: Settings, batch: int, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    from diffusers import DDIMScheduler, UNet2DModel

    widths = settings.pick((64, 128, 256), (4, 8))
    steps = settings.pick(20, 2)

    def build() -> Any:
        return UNet2DModel(**unet_config(widths, attention=True))

    net = networks.seeded(build).to(settings.device)
    scheduler = DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing")
    common: dict[str, Any] = {"steps": steps, "value_range": (0, 1), "clip": True, "device": settings.device}
    made = {name: DiffusersSynthesizer(net, scheduler, **common, **option) for name, option in options.items()}
    seeds = list(range(batch))
    first_s = {name: settings.seconds(partial(one.synthesize, seeds)) for name, one in made.items()}
    pipelines = {PIPELINE: quiet_pipeline(net, scheduler)}
    if settings.half == torch.float16:  # the pipeline cannot hand out bfloat16
        there = networks.seeded(build).to(settings.device, torch.float16)
        pipelines[f"{PIPELINE}, half precision"] = quiet_pipeline(there, scheduler)
    contestants: dict[str, Callable[[], Any]] = {
        name: settings.finished(partial(sample_pipeline, one, batch, steps)) for name, one in pipelines.items()
    }
    contestants |= {name: settings.finished(partial(one.synthesize, seeds)) for name, one in made.items()}
    timings = interleaved(contestants, rounds=settings.pick(5, 2))
    table: dict[str, Any] = ratios(timings, PIPELINE)
    exact = made[DEFAULT].synthesize(seeds)["image"]
    for name, timing in timings.items():
        table[name]["images_per_s"] = batch / timing.median
        if name in made:
            table[name]["first_call_s"] = first_s[name]
            table[name]["distance"] = distance(made[name].synthesize(seeds)["image"], exact)
        else:
            table[name]["distance"] = distance(sample_with_our_noise(pipelines[name], seeds, steps), exact)
    return table


def few_steps(settings: Settings) -> dict[str, Any]:
    """Each solver with few steps, against 200 of DDIM from the same noise: the digits model of the demo.

    All these solvers come to the same image in the limit of many steps, so the distance says how near they are.
    """
    trained: Any = load_synthesizer(Path(torchgenaug.__file__).parent / "demo" / "weights", device=settings.device)
    labels = None
    count = settings.pick(64, 2)
    if trained.num_classes is not None:
        labels = {"label": torch.arange(count) % trained.num_classes}
    common: dict[str, Any] = {
        "value_range": trained.value_range, "clip": True, "null_class": trained.null_class, "device": settings.device
    }  # fmt: skip
    seeds = list(range(count))

    def samples(solver: str, steps: int) -> tuple[torch.Tensor, float]:
        made = DiffusersSynthesizer(trained.unet, trained.scheduler, solver=solver, steps=steps, **common)
        images = made.synthesize(seeds, labels)["image"]
        return images, settings.seconds(lambda: made.synthesize(seeds, labels))

    many = settings.pick(200, 4)
    exact, exact_s = samples("ddim", many)
    width = trained.value_range[1] - trained.value_range[0]
    table: dict[str, Any] = {f"ddim, {many} steps": {"images_per_s": count / exact_s}}
    for solver in ("ddim", "dpm++", "unipc", "euler"):
        for steps in settings.pick((5, 10, 20), (2,)):
            images, took_s = samples(solver, steps)
            apart = {name: value / width for name, value in distance(images, exact).items()}
            table[f"{solver}, {steps} steps"] = {"images_per_s": count / took_s, "distance": apart}
    return table
