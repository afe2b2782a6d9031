"""Training cost as the processor time until samples are as near to held-out images as wanted.

`fit` against the loops of `training_cost`: diffusers' script in 2D, MONAI's tutorial in 3D, at their own learning rates
and at that of `fit`. Same network, batch size and images; all are sampled by the same solver in as many steps. Judging
counts no time. *Distance* is the sliced Wasserstein distance of 64 samples to held-out images, over that of real
training images (1: as near).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from benchmarks.harness import publish
from benchmarks.training_cost import Loop, diffusers_loop, monai_loop
from torchgenaug import FieldSpec
from torchgenaug.contracts import Synthesizer
from torchgenaug.recipes import FitOptions, Options, TrainingData, load_data
from torchgenaug.recipes.batches import spared, training_batches
from torchgenaug.recipes.build import build_recipe
from torchgenaug.recipes.data.training_data import Split, TensorSamples
from torchgenaug.recipes.families.monai_ddim import trailing_offset
from torchgenaug.recipes.report import Judge
from torchgenaug.recipes.state import TrainingState
from torchgenaug.synthesizers import DiffusersSynthesizer, MonaiSynthesizer

_RATE = 1e-3
"""The learning rate of ``ddpm``."""
_VOLUME_STEPS = 8  # 64 volumes take longer to sample than to train on


class Case(NamedTuple):
    """Data, a loop that others published, and the distances whose times are taken."""

    name: str
    data: str
    batch_size: int
    loop: Callable[..., Loop]
    sampled: Callable[[nn.Module, TrainingData], Synthesizer]
    seconds: float
    marks: int
    wanted: tuple[float, ...]


def _by_diffusers(network: nn.Module, data: TrainingData) -> Synthesizer:
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler.from_config(DDPMScheduler().config)
    return DiffusersSynthesizer(network, scheduler, steps=20, value_range=(-1, 1), clip=True)


def _by_monai(network: nn.Module, data: TrainingData) -> Synthesizer:
    from monai.networks.schedulers import DDIMScheduler

    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        schedule="scaled_linear_beta",
        beta_start=5e-4,
        beta_end=0.0195,
        clip_sample=False,
        steps_offset=trailing_offset(1000, _VOLUME_STEPS),
    )
    size = data.image_shape[1:]
    return MonaiSynthesizer(network, scheduler, size=size, steps=_VOLUME_STEPS, value_range=(-1, 1), clip=True)


CASES = (
    Case("2D, diffusers", "digits", 16, diffusers_loop, _by_diffusers, 40, 8, (5.0, 4.0, 3.0)),
    Case("3D, MONAI", "brain-3d", 4, monai_loop, _by_monai, 60, 3, (20.0, 10.0, 7.0)),
)


def measure(*, quick: bool = False) -> None:
    """Trains all contestants of both cases, with two seeds."""
    results = {}
    for case in CASES[: 1 if quick else None]:
        case = case._replace(seconds=0.2, marks=1) if quick else case
        results[case.name] = [
            measure_case(case, name, seed)
            for seed in range(1 if quick else 2)
            for name in ("fit", "theirs", f"theirs, rate {_RATE}")
        ]
    publish("time_to_distance", results, quick=quick)


def measure_case(case: Case, name: str, seed: int) -> dict[str, Any]:
    """Distances of one contestant over its training, and when each wanted one was reached."""
    data, held_out = (_symmetric(case.data, split) for split in ("train", "held_out"))
    judge = Judge(data, held_out, None)
    torch.manual_seed(seed)
    sampling = _VOLUME_STEPS if data.spatial_dims == 3 else None
    options = Options(batch_size=case.batch_size, steps=100_000, sampling_steps=sampling)
    recipe = build_recipe("ddpm", data, options)
    if name == "fit":
        state = TrainingState(recipe, Accelerator(cpu=True), FitOptions(seed=seed))
        spare = spared(recipe.networks)
        batches = training_batches(data, case.batch_size, seed=seed, augment=True, spare=spare)
        step: Callable[[], Any] = lambda: state.losses.add(state.train_step(batches, 0.0))  # noqa: E731
        synthesizer = state.synthesizer
    else:
        network = copy.deepcopy(recipe.networks["unet"])
        rate = {} if name == "theirs" else {"rate": _RATE}
        loop = case.loop(network, data, case.batch_size, **rate)
        step, synthesizer = loop.step, lambda: case.sampled(loop.trained(), data)
    spent, curve = 0.0, []
    for mark in range(1, case.marks + 1):
        while spent < case.seconds * mark / case.marks:
            began = time.process_time()
            step()
            spent += time.process_time() - began
        curve.append((spent, judge.distance(judge.samples(synthesizer())) / judge.floor))
    reached = {str(each): next((at for at, found in curve if found <= each), None) for each in case.wanted}
    return {"contestant": name, "seed": seed, "curve": curve, "seconds_to": reached, "noise": judge.noise / judge.floor}


def _symmetric(name: str, split: Split) -> TrainingData:
    """Images of 16 pixels a side in [-1, 1]."""
    data = load_data(name, split=split, size=16)
    images: Tensor = torch.stack([data.samples[k]["image"] for k in range(len(data))]) * 2 - 1
    fields = {"image": FieldSpec(data.image_shape, value_range=(-1, 1))}
    return TrainingData(TensorSamples({"image": images}), fields, data.ids, data.name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
