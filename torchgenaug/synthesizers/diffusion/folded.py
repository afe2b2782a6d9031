"""Steps of a scheduler as numbers, and the loop that runs them. `folding` says where the numbers come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SAMPLE, OUTPUT = 0, 1
"""Indices of x and of the network's output among the values of a step."""


class Row(NamedTuple):
    """One sum: ``Σ number · value[index]``, clamped to [-limit, limit] where there is a limit."""

    terms: tuple[tuple[int, float], ...]
    limit: float | None = None


class FoldedStep(NamedTuple):
    """One step. Its values are x, the output of ``net(scale·x)``, those kept by the step before, and its own rows.

    Attributes:
        scale: what the network's input is multiplied with.
        rows: each a sum of values before it; the last one is the new x.
        kept: indices of the values that the next step gets.
    """

    scale: float
    rows: tuple[Row, ...]
    kept: tuple[int, ...] = ()


def run_folded(steps: tuple[FoldedStep, ...], latents: Tensor, outputs: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Runs folded steps.

    Args:
        steps: what `torchgenaug.synthesizers.diffusion.linear_steps.fold` returned.
        latents: (batch, channels, *spatial), the initial noise, already times the scheduler's ``init_noise_sigma``;
            overwritten.
        outputs: function (number of the step, scaled latents) → output of the network.
    """
    memory: list[Tensor] = []
    # Allocated at once and used again: several large blocks would go back to the system after every call, and fetching
    # them again page by page took longer than all the sums.
    spare = list(latents.new_empty((_buffers(steps), *latents.shape)).unbind())
    for number, step in enumerate(steps):
        output = outputs(number, latents if step.scale == 1.0 else latents * step.scale)
        if output.data_ptr() == latents.data_ptr():
            output = output.clone()  # a network that returns its very input
        latents, memory = _advanced(step, latents, output, memory, spare)
    return latents


def _buffers(steps: tuple[FoldedStep, ...]) -> int:
    """How many tensors like x a run needs at most, apart from x."""
    remembered = [0, *(len(step.kept) for step in steps)]
    return max(
        before + len(step.rows) - 1 + (SAMPLE in step.kept) + (OUTPUT in step.kept)
        for before, step in zip(remembered, steps, strict=False)
    )


def _advanced(
    step: FoldedStep, latents: Tensor, output: Tensor, memory: list[Tensor], spare: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """(the new x, the kept values); x takes the place of the old one unless that is kept."""
    values = [latents, output, *memory]
    for row in step.rows[:-1]:
        values.append(_sum(row, values, spare.pop(), in_place=False))
    in_place = SAMPLE not in step.kept
    new = _sum(step.rows[-1], values, latents if in_place else spare.pop(), in_place=in_place)
    if OUTPUT in step.kept:
        values[OUTPUT] = spare.pop().copy_(output)  # the network may use its own buffer again
    kept = [values[index] for index in step.kept]
    live = {id(value) for value in (new, output, *kept)}
    spare += {id(value): value for value in values if id(value) not in live}.values()
    return new, kept


def _sum(row: Row, values: list[Tensor], target: Tensor, *, in_place: bool) -> Tensor:
    """Writes the sum into `target`: the memory of x (`in_place`), or of none of the summed values."""
    (first, factor), *others = sorted(row.terms) if in_place else row.terms
    if not (in_place and first == SAMPLE):
        torch.mul(values[first], factor, out=target)
    elif factor != 1.0:
        target.mul_(factor)
    for index, number in others:
        target.add_(values[index], alpha=number)
    if row.limit is not None:
        target.clamp_(-row.limit, row.limit)
    return target
