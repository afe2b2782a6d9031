"""The synthesizer against diffusers' own pipeline at equal steps, and with each speed option.

First outside the network: one that does nothing leaves the time of noise, scheduler and conversion (64 samples of
1×64×64, four steps). Then with a network: images per second, and how far each option moves the samples from those of
the float32 default, in units of their range of 1. On a GPU too where there is one.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import diffusers
import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.pipelines.ddim import pipeline_ddim

from benchmarks.harness import interleaved, is_wanted, publish, ratios
from torchgenaug import DiffusersSynthesizer, SyntheticSequence, seeding

BATCH, STEPS = 64, 4
OUTSIDE = "outside_the_network"
PIPELINE = "DDIMPipeline, to numpy"
NOISE, TORCH_NOISE = "its noise alone (seeding.normal)", "the pipeline's noise alone (torch, a generator per sample)"


class Answers(diffusers.UNet2DModel):  # type: ignore[misc]
    """A network that costs nothing: the same answer every time."""

    answer: torch.Tensor

    def forward(self, sample: Any, timestep: Any, class_labels: Any = None, return_dict: bool = True) -> Any:
        return UNet2DOutput(sample=self.answer) if return_dict else (self.answer,)


def outside_the_network(rounds: int) -> dict[str, Any]:
    net = Answers(**unet_config((8, 8), attention=False))
    net.answer = 0.1 * torch.randn(BATCH, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    schedulers = {
        "DDIM": diffusers.DDIMScheduler(clip_sample=False),
        "DDIM, clipping": diffusers.DDIMScheduler(),
        "DPM-Solver++": diffusers.DPMSolverMultistepScheduler(),
        "Euler": diffusers.EulerDiscreteScheduler(),
        "UniPC": diffusers.UniPCMultistepScheduler(),
    }
    seeds = list(range(BATCH))
    pipeline = quiet_pipeline(net, schedulers["DDIM"])
    contestants: dict[str, Any] = {
        PIPELINE: lambda: sample_pipeline(pipeline, BATCH, STEPS),
        "DDIMPipeline, to PIL": lambda: sample_pipeline(pipeline, BATCH, STEPS, "pil"),
        NOISE: lambda: seeding.normal(seeds, (1, 64, 64)),
        TORCH_NOISE: lambda: pipeline_ddim.randn_tensor((BATCH, 1, 64, 64), generator=generators(BATCH, "cpu")),
    }
    options: dict[str, Any] = {"steps": STEPS, "value_range": (0, 1)}
    made = {name: DiffusersSynthesizer(net, scheduler, **options) for name, scheduler in schedulers.items()}
    for name, synthesizer in made.items():
        contestants[f"DiffusersSynthesizer, {name}"] = partial(synthesizer.synthesize, seeds)
    # Noise lies outside any range: `clip` keeps the sequence's check content.
    sequence = SyntheticSequence(DiffusersSynthesizer(net, schedulers["DDIM"], **options, clip=True))
    contestants["SyntheticSequence (checked), DDIM"] = lambda: sequence.batch(seeds)
    timings = interleaved(contestants, rounds=rounds)
    table = ratios(timings, PIPELINE)
    for name, timing in timings.items():
        table[name]["us_per_sample"] = 1e6 * timing.median / BATCH
        table[name]["us_per_sample_fastest"] = 1e6 * min(timing.seconds) / BATCH
    for synthesizer in made.values():
        assert torch.equal(synthesizer.synthesize(seeds)["image"], synthesizer.synthesize(seeds)["image"])
    return table


def with_network(device: str, batch: int, steps: int, widths: tuple[int, ...], *, quick: bool) -> dict[str, Any]:
    net = random_net(widths).to(device)
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing")
    half = torch.float16 if device == "cuda" else torch.bfloat16
    options: dict[str, dict[str, Any]] = {
        "float32 (default)": {},
        "channels_last=True": {"channels_last": True},
        "channels_last=False": {"channels_last": False},
        f"dtype={half}": {"dtype": half},
        f"dtype={half}, channels_last=True": {"dtype": half, "channels_last": True},
        # inductor takes minutes.
        "compile": {"compile": "eager" if quick else True},
    }
    if device == "cuda":
        everything = {"dtype": half, "channels_last": True, "compile": True, "cuda_graph": True}
        options |= {
            "cuda_graph": {"cuda_graph": True},
            f"cuda_graph, dtype={half}": {"cuda_graph": True, "dtype": half},
            "compile, cuda_graph": {"compile": True, "cuda_graph": True},
            f"compile, cuda_graph, dtype={half}, channels_last=True": everything,
        }
    common: dict[str, Any] = {"steps": steps, "value_range": (0, 1), "clip": True, "device": device}
    made = {name: DiffusersSynthesizer(net, scheduler, **common, **option) for name, option in options.items()}
    seeds = list(range(batch))
    first_calls = {name: seconds(partial(finished, synthesizer, seeds)) for name, synthesizer in made.items()}
    pipelines = {PIPELINE: quiet_pipeline(net, scheduler)}
    if half == torch.float16:  # the pipeline cannot hand out bfloat16
        pipelines[f"{PIPELINE}, {half}"] = quiet_pipeline(
            torch.nn.Module.to(random_net(widths), device, half), scheduler
        )
    contestants: dict[str, Callable[[], Any]] = {
        name: partial(sample_pipeline, pipeline, batch, steps) for name, pipeline in pipelines.items()
    }
    contestants |= {name: partial(finished, synthesizer, seeds) for name, synthesizer in made.items()}
    timings = interleaved(contestants, rounds=2 if quick else 11)
    table: dict[str, Any] = ratios(timings, PIPELINE)
    exact = made["float32 (default)"].synthesize(seeds)["image"].cpu()
    for name, timing in timings.items():
        table[name]["images_per_s"] = batch / timing.median
        if name in made:
            image = made[name].synthesize(seeds)["image"].cpu()
            table[name]["first_call_s"] = first_calls[name]
        else:
            image = sample_with_our_noise(pipelines[name], seeds, steps)
        table[name]["max_distance"] = (image - exact).abs().max().item()
        table[name]["mean_distance"] = (image - exact).abs().mean().item()
    for name in (PIPELINE, "channels_last=False", "compile"):
        assert table[name]["max_distance"] <= 1e-2, (name, table[name])
    return table


def unet_config(widths: tuple[int, ...], *, attention: bool) -> dict[str, Any]:
    last = ("AttnDownBlock2D", "AttnUpBlock2D") if attention else ("DownBlock2D", "UpBlock2D")
    plain = len(widths) - 1
    return {
        "sample_size": 64,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": widths,
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "down_block_types": (*["DownBlock2D"] * plain, last[0]),
        "up_block_types": (last[1], *["UpBlock2D"] * plain),
    }


def random_net(widths: tuple[int, ...]) -> Any:
    """Weights that matter everywhere; small ones in the end, so that samples are not all clipped."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return diffusers.UNet2DModel(**unet_config(widths, attention=True)).eval()


def quiet_pipeline(net: Any, scheduler: Any) -> Any:
    pipeline = diffusers.DDIMPipeline(net, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_pipeline(pipeline: Any, batch: int, steps: int, output_type: str = "np") -> Any:
    device = pipeline.unet.device if next(pipeline.unet.parameters(), None) is not None else "cpu"
    return pipeline(
        batch_size=batch, generator=generators(batch, device), num_inference_steps=steps, output_type=output_type
    ).images


def generators(count: int, device: Any) -> list[torch.Generator]:
    return [torch.Generator(device).manual_seed(seed) for seed in range(count)]


def sample_with_our_noise(pipeline: Any, seeds: list[int], steps: int) -> torch.Tensor:
    noise = seeding.normal(seeding.derive(seeds, seeding.NOISE), (1, 64, 64))
    noise = noise.to(pipeline.unet.device, pipeline.unet.dtype)
    with mock.patch.object(pipeline_ddim, "randn_tensor", return_value=noise):
        images = sample_pipeline(pipeline, len(seeds), steps)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def finished(synthesizer: DiffusersSynthesizer, seeds: list[int]) -> None:
    synthesizer.synthesize(seeds)
    if synthesizer.device.type == "cuda":
        torch.cuda.synchronize()


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(*, quick: bool = False, only: str | None = None) -> dict[str, Any]:
    load, results = os.getloadavg(), dict[str, Any]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if is_wanted(OUTSIDE, only):
            results[OUTSIDE] = outside_the_network(3 if quick else 31)
        cases: list[tuple[str, int, int, tuple[int, ...]]] = [("cpu", 8, 4, (32, 64, 64))]
        if quick:
            cases = [("cpu", 2, 2, (4, 8))]
        elif torch.cuda.is_available():
            cases += [("cuda", batch, 20, (64, 128, 256)) for batch in (8, 64)]
        for device, batch, steps, widths in cases:
            name = f"UNet {'-'.join(map(str, widths))} on {device}, {batch} images, {steps} steps"
            if is_wanted(name, only):
                results[name] = with_network(device, batch, steps, widths, quick=quick)
    results["load_average"] = {"before": load, "after": os.getloadavg(), "cores": os.cpu_count()}
    return publish("generator", results, quick=quick, only=only)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
