"""The sampling loop: any diffusers scheduler, with noise that depends on each sample's own seed alone.

diffusers' pipelines cannot be used here: they draw noise per batch, clamp the samples, know no class labels, and run
Euler-type schedulers without scaling their input (wrong pictures, no error).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.diffusion.folded import FoldedStep, run_folded
from torchgenaug.synthesizers.diffusion.linear_steps import fold

Predict = Callable[[Tensor, Tensor], Tensor]
"""(latents (batch, channels, *spatial), 0-d timestep on the device of the net) → the net's output, float32."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scheduler whose timesteps are set.

    Attributes:
        scheduler: never stepped itself, each run steps a copy: schedulers keep state, which threads must not share.
        timesteps: the same timesteps on the device of the net.
        draws_noise: whether its steps draw random numbers.
        folded: its steps as numbers, where that is all that they are.
    """

    scheduler: Any
    timesteps: Tensor
    draws_noise: bool
    folded: tuple[FoldedStep, ...] | None = None


def prepare_schedule(scheduler: Any, steps: int, *, channels: int, out_channels: int, device: torch.device) -> Schedule:
    """Sets the timesteps, and tries the scheduler out on a few numbers.

    Args:
        scheduler: a diffusers scheduler; only its class and configuration are used.
        steps: number of inference steps.
        channels: channels of the latents.
        out_channels: channels that the net returns (twice as many where it predicts variances).
        device: device of the net.

    Raises:
        ConfigurationError: the scheduler cannot do this many steps, cannot be driven by this loop, or draws random
            numbers that cannot be seeded per sample.
    """
    name = type(scheduler).__name__
    try:
        fresh = type(scheduler).from_config(scheduler.config)
        # The scheduler's own tables stay on the CPU: it reads single numbers from them, and each would wait for the
        # GPU.
        fresh.set_timesteps(steps)
        takes_generator = "generator" in inspect.signature(fresh.step).parameters
        trials = [_try_out(fresh, takes_generator, channels, out_channels) for _ in range(2)]
    except Exception as error:
        raise ConfigurationError(
            f"`scheduler` must be able to denoise in {steps} steps, got {name}, which fails with: {error!r}. "
            "Change `steps` or the configuration of the scheduler, or use DDIMScheduler.from_config(scheduler.config)."
        ) from error
    (first, draws_noise), (second, _) = trials
    if not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise ConfigurationError(
            f"`scheduler` must take its random numbers from a generator, got {name}, which draws them elsewhere. The "
            "same seed would give other samples each time. Use DPMSolverMultistepScheduler with "
            "algorithm_type='sde-dpmsolver++', or any scheduler whose step() has `generator`."
        )
    folded = None if draws_noise or out_channels != channels else fold(fresh)
    return Schedule(fresh, fresh.timesteps.to(device), draws_noise, folded)


def run_schedule(schedule: Schedule, predict: Predict, noise: Tensor, seeds: Sequence[int]) -> Tensor:
    """Denoises `noise` with one seed per sample.

    Args:
        schedule: what `prepare_schedule` returned.
        predict: the network.
        noise: (batch, channels, *spatial) float32, standard normal; may be overwritten.
        seeds: (batch,) seeds of the samples; the noise of the steps is derived from them.

    Returns:
        (batch, channels, *spatial) float32 samples, in the space of the network.
    """
    if schedule.folded is not None:
        sigma = float(getattr(schedule.scheduler, "init_noise_sigma", 1.0))
        start = noise if sigma == 1.0 else noise.mul_(sigma)
        return run_folded(schedule.folded, start, lambda number, latents: predict(latents, schedule.timesteps[number]))
    generators = None
    if schedule.draws_noise:
        # One CPU generator a sample: the same noise in every batch and on every device. torch keeps 32 bits of a seed
        # only; two samples that agree in them still differ, because their initial noise has 64.
        generators = [
            torch.Generator().manual_seed(seed) for seed in seeding.derive(list(seeds), seeding.STEP_NOISE).tolist()
        ]
    return _denoise(schedule, predict, noise, generators)


def _try_out(scheduler: Any, takes_generator: bool, channels: int, out_channels: int) -> tuple[Tensor, bool]:
    """Runs all steps on two samples of one pixel: the result, and whether random numbers were drawn."""
    noise = torch.linspace(-1, 1, 2 * channels).reshape(2, channels, 1, 1)
    repeats = out_channels // channels
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)] if takes_generator else None
    before = [generator.get_state() for generator in generators or ()]
    result = _denoise(
        Schedule(scheduler, scheduler.timesteps, takes_generator),
        lambda latents, _: latents.float().mul(0.5).repeat(1, repeats, 1, 1),
        noise,
        generators,
    )
    if result.shape != noise.shape:
        raise ValueError(f"shape {tuple(noise.shape)} becomes {tuple(result.shape)}")
    after = [generator.get_state() for generator in generators or ()]
    return result, any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def _denoise(schedule: Schedule, predict: Predict, noise: Tensor, generators: list[Any] | None) -> Tensor:
    scheduler = copy.deepcopy(schedule.scheduler)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    step_options: dict[str, Any] = {"return_dict": False}
    if generators is not None:
        step_options["generator"] = generators
    scale_model_input = getattr(scheduler, "scale_model_input", None)
    latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    for timestep, device_timestep in zip(scheduler.timesteps, schedule.timesteps, strict=True):
        model_input = latents if scale_model_input is None else scale_model_input(latents, timestep)
        output = predict(model_input, device_timestep)
        latents = scheduler.step(output, timestep, latents, **step_options)[0]
    return latents.float()
