"""The sampling loop from a real image on: noised and denoised again, all of it or what a mask leaves to the model.

References:
    Meng et al. (2022). SDEdit: guided image synthesis and editing with stochastic differential equations. ICLR.
    Lugmayr et al. (2022). RePaint: inpainting using denoising diffusion probabilistic models. CVPR (blending of known
        and made regions in every step, here without its resampling, as diffusers does it).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.diffusion.sampling import Predict

_STRENGTHS = {"image": 0.8, "inpaint": 1.0}


@dataclass(frozen=True, slots=True)
class Edit:
    """A scheduler that starts at an image.

    Attributes:
        scheduler: timesteps set, begin index set; never stepped itself, each run steps a copy.
        timesteps: those that are walked, on the device of the net.
        begin: index of the first of them among the scheduler's own.
        draws_noise: whether its steps draw random numbers.
        from_noise: whether it starts at noise alone rather than at the noised image.
    """

    scheduler: Any
    timesteps: Tensor
    begin: int
    draws_noise: bool
    from_noise: bool = False


def checked_strength(strength: float | None, mode: str) -> float | None:
    """The fraction of the noise schedule that is applied to a source image, or the mode's default; None in mode "text".

    Raises:
        ConfigurationError: one in mode "text", or one that is not in (0, 1].
    """
    if mode == "text":
        if strength is not None:
            raise ConfigurationError(
                f"`strength` must be None in mode 'text', got {strength!r}. It says how much of a source image goes. "
                "Use mode='image'."
            )
        return None
    if strength is None:
        return _STRENGTHS[mode]
    number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not number or not 0 < strength <= 1:
        raise ConfigurationError(
            f"`strength` must be in (0, 1], got {strength!r}. Near 0 the source image stays, at 1 nearly nothing of it."
        )
    return float(strength)


def prepare_edit(
    scheduler: Any, steps: int, strength: float, *, from_noise: bool, channels: int, device: torch.device
) -> Edit:
    """Sets the timesteps, of which the last ``int(steps * strength)`` are walked, and tries the scheduler out.

    Args:
        scheduler: a diffusers scheduler; only its class and configuration are used.
        steps: inference steps at strength 1.
        strength: how much of the way to noise the image goes, (0, 1].
        from_noise: at strength 1 start at noise alone.
        channels: channels of the latents.
        device: device of the net.

    Raises:
        ConfigurationError: no step would remain, or the scheduler cannot be driven so.
    """
    walked = min(int(steps * strength), steps)
    if walked < 1:
        raise ConfigurationError(
            f"`strength` must leave at least one of {steps} steps, got {strength}: int({steps} * {strength}) = 0. The "
            f"images would come back unchanged. Use more steps, or strength={1 / steps:.3g} or more."
        )
    name = type(scheduler).__name__
    try:
        fresh = type(scheduler).from_config(scheduler.config)
        # LCM spreads its steps over the part of the way that is walked, as diffusers' pipelines ask it to.
        takes_strength = "strength" in inspect.signature(fresh.set_timesteps).parameters
        fresh.set_timesteps(steps, **({"strength": strength} if takes_strength else {}))
        begin = 0 if takes_strength else (steps - walked) * getattr(fresh, "order", 1)
        if hasattr(fresh, "set_begin_index"):
            fresh.set_begin_index(begin)
        generator = "generator" in inspect.signature(fresh.step).parameters
        timesteps = fresh.timesteps[begin:].to(device)
        edit = Edit(fresh, timesteps, begin, generator, from_noise and strength == 1)
        trials = [_try_out(edit, channels) for _ in range(2)]
    except Exception as error:
        raise ConfigurationError(
            f"`scheduler` must be able to start at a noised image, got {name}, which fails with: {error!r}. Use "
            "solver='ddim' or 'dpm++', or DDIMScheduler.from_config(scheduler.config)."
        ) from error
    (first, draws_noise), (second, _) = trials
    if not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise ConfigurationError(
            f"`scheduler` must take its random numbers from a generator, got {name}, which draws them elsewhere. The "
            "same seed would give other samples each time. Use DDIMScheduler.from_config(scheduler.config)."
        )
    return Edit(fresh, timesteps, begin, draws_noise, edit.from_noise)


def run_edit(
    edit: Edit, predict: Predict, source: Tensor, noise: Tensor, seeds: Sequence[int], mask: Tensor | None
) -> Tensor:
    """Denoises `source` after noising it.

    Args:
        edit: what `prepare_edit` returned.
        predict: the network.
        source: (batch, channels, *spatial) float32, clean.
        noise: the same shape, standard normal.
        seeds: (batch,) seeds of the samples; the noise of the steps is derived from them.
        mask: (batch, 1, *spatial), 1 where the model paints and 0 where `source` stays; None: everywhere.

    Returns:
        (batch, channels, *spatial) float32, in the space of the network.
    """
    generators = None
    if edit.draws_noise:
        # As in `run_schedule`: one CPU generator a sample, the same noise in every batch and on every device.
        generators = [
            torch.Generator().manual_seed(seed) for seed in seeding.derive(list(seeds), seeding.STEP_NOISE).tolist()
        ]
    return _denoise(edit, predict, source, noise, mask, generators)


def _denoise(
    edit: Edit, predict: Predict, source: Tensor, noise: Tensor, mask: Tensor | None, generators: list[Any] | None
) -> Tensor:
    scheduler = copy.deepcopy(edit.scheduler)
    own_timesteps = scheduler.timesteps[edit.begin :]
    step_options: dict[str, Any] = {"return_dict": False}
    if generators is not None:
        step_options["generator"] = generators
    if edit.from_noise:
        latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    else:
        latents = scheduler.add_noise(source, noise, own_timesteps[:1].repeat(len(source)))
    scale_model_input = getattr(scheduler, "scale_model_input", None)
    last = len(own_timesteps) - 1
    for number, (timestep, device_timestep) in enumerate(zip(own_timesteps, edit.timesteps, strict=True)):
        model_input = latents if scale_model_input is None else scale_model_input(latents, timestep)
        latents = scheduler.step(predict(model_input, device_timestep), timestep, latents, **step_options)[0]
        if mask is not None:
            known = source
            if number < last:
                # A scheduler that counts its steps noises to the level that it has reached.
                known = scheduler.add_noise(source, noise, own_timesteps[number + 1 : number + 2])
            latents = (1 - mask) * known + mask * latents
    return latents.float()


def _try_out(edit: Edit, channels: int) -> tuple[Tensor, bool]:
    """Runs all steps on two samples of two pixels, one masked: the result, and whether random numbers were drawn."""
    source = torch.linspace(-1, 1, 4 * channels).reshape(2, channels, 1, 2)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)] if edit.draws_noise else None
    before = [generator.get_state() for generator in generators or ()]
    mask = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    result = _denoise(edit, lambda latents, _: latents.float() * 0.5, source, source.flip(0), mask, generators)
    if result.shape != source.shape:
        raise ValueError(f"shape {tuple(source.shape)} becomes {tuple(result.shape)}")
    after = [generator.get_state() for generator in generators or ()]
    return result, any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
