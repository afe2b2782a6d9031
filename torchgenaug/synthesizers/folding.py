"""Schedulers whose step is two multiplications, folded into two numbers per step.

A step of DDIM (eta 0), Euler or flow matching is ``x ← a·x + b·output`` with numbers a and b that the timestep alone
decides. diffusers computes it in some twenty tensor operations; folded, it is two. The numbers are not derived again
from papers but read off the scheduler itself, by stepping it on unit vectors, and the result is compared with the
scheduler's own on random numbers: one that clips, remembers earlier steps or draws noise does not pass, and is left
alone.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor


class FoldedStep(NamedTuple):
    """``x ← keep·x + move·net(scale·x)``."""

    scale: float
    keep: float
    move: float


def fold(scheduler: Any) -> tuple[FoldedStep, ...] | None:
    """The steps of a scheduler as numbers, or None if they are not of that form.

    Args:
        scheduler: timesteps set, draws no noise; not changed.
    """
    steps = []
    walker = _started(scheduler)
    for timestep in walker.timesteps:
        unit = torch.tensor([[[[1.0, 0.0]]]], dtype=torch.float64)
        scaled = _scaled(walker, unit, timestep)
        moved = walker.step(unit.flip(-1), timestep, unit, return_dict=False)[0]
        if moved.shape != unit.shape:
            return None
        keep, move = moved.flatten().tolist()
        steps.append(FoldedStep(scaled.flatten()[0].item(), keep, move))
    folded = tuple(steps)
    return folded if _agrees(scheduler, folded) else None


def run_folded(steps: tuple[FoldedStep, ...], latents: Tensor, outputs: Any) -> Tensor:
    """Runs folded steps in place.

    Args:
        steps: what `fold` returned.
        latents: initial noise, already times the scheduler's ``init_noise_sigma``; overwritten.
        outputs: function (number of the step, scaled latents) → output of the network.
    """
    for number, (scale, keep, move) in enumerate(steps):
        output = outputs(number, latents if scale == 1.0 else latents * scale)
        latents.mul_(keep).add_(output, alpha=move)
    return latents


def _agrees(scheduler: Any, folded: tuple[FoldedStep, ...]) -> bool:
    """Whether both give the same on random numbers, large ones too, to the accuracy of float32."""
    draw = torch.Generator().manual_seed(0)
    start = 3 * torch.randn((1, 1, 8, 8), generator=draw) * getattr(scheduler, "init_noise_sigma", 1.0)
    answers = torch.randn((len(folded), 1, 1, 8, 8), generator=draw) * 3
    walker, expected = _started(scheduler), start
    for number, timestep in enumerate(walker.timesteps):
        _scaled(walker, expected, timestep)
        expected = walker.step(answers[number], timestep, expected, return_dict=False)[0]
    got = run_folded(folded, start.clone(), lambda number, _: answers[number])
    return bool((got - expected).abs().max() <= 2e-5 * expected.abs().max().clamp(min=1.0))


def _started(scheduler: Any) -> Any:
    walker = copy.deepcopy(scheduler)
    if hasattr(walker, "set_begin_index"):
        walker.set_begin_index(0)
    return walker


def _scaled(walker: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    scaled: Tensor = walker.scale_model_input(latents, timestep) if hasattr(walker, "scale_model_input") else latents
    return scaled
