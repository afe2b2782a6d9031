"""The sampling loop for MONAI's schedulers: each step as a few numbers, noise from each sample's own seed.

MONAI's ``step`` takes one random generator for a whole batch, so that a sample would depend on its neighbours, and
``DiffusionInferer.sample`` takes neither a generator nor class labels. So the steps of the four schedulers are written
out as numbers, which cost two to four tensor operations instead of twenty, and are compared with MONAI's own ``step``
on random tensors before they are used: what disagrees is refused.

References:
    Ho, Jain, Abbeel (2020). Denoising diffusion probabilistic models. NeurIPS (equation 7).
    Song, Meng, Ermon (2021). Denoising diffusion implicit models. ICLR (equation 12, η = 0).
    Liu, Ren, Lin, Zhao (2022). Pseudo numerical methods for diffusion models on manifolds. ICLR (equations 9 and 12).
    Liu, Gong, Liu (2023). Flow straight and fast: learning to generate and transfer data with rectified flow. ICLR.
    Salimans, Ho (2022). Progressive distillation for fast sampling of diffusion models. ICLR (v prediction).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError


class Step(NamedTuple):
    """``x ← keep·x + move·e + weight·clamp(from_x·x + from_output·output) + noise·n``.

    Attributes:
        timestep: time that the network is called with.
        keep: factor of the sample, or of the sample at the start if `restart`.
        move: factor of e = Σ combination[k] · (output k steps ago; k = 0 is this one).
        combination: weights of the outputs, newest first.
        clip: (weight, from_x, from_output, low, high) where the predicted clean sample is clamped, else None.
        noise: factor of standard normal noise.
        restart: go on from the start, and do not remember this output (the second step of PLMS).
    """

    timestep: float
    keep: float
    move: float
    combination: tuple[float, ...] = (1.0,)
    clip: tuple[float, float, float, float, float] | None = None
    noise: float = 0.0
    restart: bool = False


def planned_steps(scheduler: Any, steps: int, numel: int) -> tuple[Step, ...]:
    """The steps of a fresh scheduler of MONAI, as numbers.

    Args:
        scheduler: what `monai_schedulers.rebuilt` returned; its timesteps are set here.
        steps: number of inference steps.
        numel: product of the spatial sizes that the network sees (RFlow may shift its times by it).

    Raises:
        ConfigurationError: a number of steps that the scheduler cannot do (rightly), Runge-Kutta steps, or a MONAI
            whose steps are not those known here.
    """
    kind, levels = type(scheduler).__name__, int(scheduler.num_train_timesteps)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= levels:
        raise ConfigurationError(
            f"`steps` must be an integer in [1, {levels}], got {steps!r}. The model knows {levels} noise levels. "
            "50 steps are a common choice for DDIMScheduler, 30 for RFlowScheduler."
        )
    if kind == "DDPMScheduler" and steps != levels:
        raise ConfigurationError(
            f"`steps` must be {levels} for a DDPMScheduler of {levels} noise levels, got {steps}. MONAI's step goes "
            "down one level, however far the next one is: samples of fewer steps keep their noise. Use "
            "DDIMScheduler with the same noise schedule for fewer steps."
        )
    if kind == "PNDMScheduler" and not scheduler.skip_prk_steps:
        raise ConfigurationError(
            "`scheduler.skip_prk_steps` must be True for a PNDMScheduler, got False. Its Runge-Kutta steps are not "
            "sampled. Use PNDMScheduler(skip_prk_steps=True, …)."
        )
    try:
        if kind == "RFlowScheduler":
            scheduler.set_timesteps(steps, input_img_size_numel=numel)
        else:
            scheduler.set_timesteps(steps)
    except Exception as error:
        raise ConfigurationError(
            f"`scheduler` must be able to denoise in {steps} steps, got {kind}, which fails with: {error!r}. "
            "Change `steps` or its arguments."
        ) from error
    plan = {"DDPMScheduler": _ddpm, "DDIMScheduler": _ddim, "PNDMScheduler": _pndm, "RFlowScheduler": _rflow}[kind]
    try:
        planned = tuple(plan(scheduler))
    except (ArithmeticError, ValueError, IndexError) as error:
        raise ConfigurationError(
            f"`scheduler` must have finite steps, got {kind}, whose noise levels give {error!r}. Check its betas: no "
            "level may be pure noise or outside the table."
        ) from error
    _check(scheduler, planned)
    return planned


def run_steps(
    steps: tuple[Step, ...],
    output_of: Callable[[int, Tensor], Tensor],
    start: Tensor,
    noise_of: Callable[[int], Tensor],
) -> Tensor:
    """Denoises `start`.

    Args:
        steps: what `planned_steps` returned.
        output_of: function (number of the step, samples) → output of the network, float32.
        start: (batch, channels, *spatial) float32 standard normal noise; not changed.
        noise_of: function (number of the step) → standard normal noise of the same shape.
    """
    samples, remembered = start, list[Tensor]()
    for number, step in enumerate(steps):
        output = output_of(number, samples)
        outputs = [output, *remembered]
        moved = output
        if len(step.combination) > 1:
            moved = output * step.combination[0]
            for factor, earlier in zip(step.combination[1:], outputs[1:], strict=False):
                moved.add_(earlier, alpha=factor)
        following = (start if step.restart else samples) * step.keep
        if step.move:
            following.add_(moved, alpha=step.move)
        if step.clip is not None:
            weight, from_x, from_output, low, high = step.clip
            clean = (samples * from_x).add_(output, alpha=from_output).clamp_(low, high)
            following.add_(clean, alpha=weight)
        if step.noise:
            following.add_(noise_of(number), alpha=step.noise)
        if not step.restart:
            remembered = outputs[:3]
        samples = following
    return samples


def _clean_and_noise(kind: str, level: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """((factor of x, of the output) of the clean sample, the same of the noise), for a level ᾱ."""
    signal, spread = math.sqrt(level), math.sqrt(1 - level)
    if kind == "epsilon":
        return (1 / signal, -spread / signal), (0.0, 1.0)
    if kind == "sample":
        return (0.0, 1.0), (1 / spread, -signal / spread)
    return (signal, -spread), (spread, signal)


def _with_clean(
    scheduler: Any, timestep: int, weight: float, clean: tuple[float, float], keep: float, move: float, noise: float
) -> Step:
    """A step that adds `weight` times the predicted clean sample, clamped if the scheduler clamps it."""
    if scheduler.clip_sample:
        low, high = scheduler.clip_sample_values
        return Step(timestep, keep, move, clip=(weight, *clean, low, high), noise=noise)
    return Step(timestep, keep + weight * clean[0], move + weight * clean[1], noise=noise)


def _ddpm(scheduler: Any) -> list[Step]:
    steps, levels = [], scheduler.alphas_cumprod.tolist()
    for timestep in scheduler.timesteps.tolist():
        level, before = levels[timestep], levels[timestep - 1] if timestep else 1.0
        alpha, beta = scheduler.alphas[timestep].item(), scheduler.betas[timestep].item()
        clean, _ = _clean_and_noise(scheduler.prediction_type, level)
        variance = (1 - before) / (1 - level) * beta
        if scheduler.variance_type == "fixed_small":
            variance = max(variance, 1e-20)
        elif scheduler.variance_type == "fixed_large":
            variance = beta
        weight, keep = math.sqrt(before) * beta / (1 - level), math.sqrt(alpha) * (1 - before) / (1 - level)
        noise = math.sqrt(variance) if timestep else 0.0
        steps.append(_with_clean(scheduler, timestep, weight, clean, keep, 0.0, noise))
    return steps


def _ddim(scheduler: Any) -> list[Step]:
    steps, levels = [], scheduler.alphas_cumprod.tolist()
    for timestep in scheduler.timesteps.tolist():
        earlier = timestep - scheduler.num_train_timesteps // scheduler.num_inference_steps
        level = levels[timestep]
        before = levels[earlier] if earlier >= 0 else scheduler.final_alpha_cumprod.item()
        clean, (keep, move) = _clean_and_noise(scheduler.prediction_type, level)
        rest = math.sqrt(1 - before)
        steps.append(_with_clean(scheduler, timestep, math.sqrt(before), clean, rest * keep, rest * move, 0.0))
    return steps


# Adams-Bashforth weights; the second step repeats the first one with the mean of both outputs.
_PLMS = ((1.0,), (0.5, 0.5), (1.5, -0.5), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def _pndm(scheduler: Any) -> list[Step]:
    """As MONAI steps, which after its repeated step takes the third timestep with the sample of the second."""
    steps, levels = [], scheduler.alphas_cumprod.tolist()
    stride = scheduler.num_train_timesteps // scheduler.num_inference_steps
    for number, timestep in enumerate(scheduler.timesteps.tolist()):
        repeated = number == 1
        at, to = (timestep + stride, timestep) if repeated else (timestep, timestep - stride)
        level, before = levels[at], levels[to] if to >= 0 else scheduler.final_alpha_cumprod.item()
        divisor = level * math.sqrt(1 - before) + math.sqrt(level * (1 - level) * before)
        keep, move = math.sqrt(before / level), (level - before) / divisor
        if scheduler.prediction_type == "v_prediction":
            keep, move = keep + move * math.sqrt(1 - level), move * math.sqrt(level)
        steps.append(Step(timestep, keep, move, _PLMS[min(number, 4)], restart=repeated))
    return steps


def _rflow(scheduler: Any) -> list[Step]:
    times = scheduler.timesteps.tolist()
    # int: MONAI rounds the next time down, also where times are not whole.
    following = [int(time) for time in [*times[1:], 0]]
    return [
        Step(time, 1.0, (time - after) / scheduler.num_train_timesteps)
        for time, after in zip(times, following, strict=True)
    ]


def _check(scheduler: Any, steps: tuple[Step, ...]) -> None:
    """Raises `ConfigurationError` unless `steps` do what MONAI's own ``step`` does, on random numbers."""
    draw = torch.Generator().manual_seed(0)
    start = torch.randn((1, 1, 32), generator=draw)
    outputs = 2 * torch.randn((len(steps), 1, 1, 32), generator=draw)
    own, theirs = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    got = run_steps(steps, lambda number, _: outputs[number], start, lambda _: torch.randn((1, 1, 32), generator=own))
    expected, times = start, scheduler.timesteps
    kind = type(scheduler).__name__
    for number, timestep in enumerate(times):
        if kind == "RFlowScheduler":
            after = times[number + 1] if number + 1 < len(times) else torch.zeros((), dtype=times.dtype)
            expected, _ = scheduler.step(outputs[number], timestep, expected, after)
        elif kind == "DDPMScheduler":
            expected, _ = scheduler.step(outputs[number], timestep, expected, generator=theirs)
        else:
            expected, _ = scheduler.step(outputs[number], timestep, expected)
    scale = expected.abs().max().clamp(min=1.0)
    if not (got - expected).abs().max() <= 1e-3 * scale:
        import monai

        raise ConfigurationError(
            f"`scheduler` must step as MONAI 1.6's {kind} does, got another result from MONAI {monai.__version__}. "
            "Samples would not be those of the model. Install the tested version: pip install monai==1.6.1"
        )
