"""Schedulers whose steps are sums of tensors times numbers, folded into those numbers.

A step of DDIM (eta 0), Euler or flow matching is ``x ← a·x + b·output`` with numbers a and b that the timestep alone
decides. DPM-Solver++, UniPC and others add what they remember of earlier steps, and DDIM may clamp its prediction on
the way. diffusers computes that in twenty to a hundred tensor operations a step; folded, it is two to nine. The numbers
are not derived again from papers but read off the scheduler itself, by stepping it on unit vectors, its memory replaced
by unit vectors too. The result is compared with the scheduler's own on random numbers: one that does something else, or
draws noise, does not pass, and is left alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.synthesizers.diffusion.folded import OUTPUT, SAMPLE, FoldedStep, Row, run_folded

_WIDTH = 16  # unit vectors: x, output, and what a scheduler may remember
_NOISE = 1e-6  # of the largest number of a row: schedulers compute theirs in float32

Vector = npt.NDArray[np.float64]


class _Step(NamedTuple):
    """What one step does, over x, output and the registers (the tensors that the scheduler remembers)."""

    scale: float
    registers: list[Vector]
    sample: Vector


def fold(scheduler: Any) -> tuple[FoldedStep, ...] | None:
    """The steps of a scheduler as numbers, or None if they are not of that form.

    Args:
        scheduler: timesteps set, draws no noise; not changed.
    """
    clips = bool(getattr(scheduler, "config", {}).get("clip_sample"))
    try:
        folded = _read_clipped(scheduler) if clips else _compacted(_read(scheduler))
        return folded if _agrees(scheduler, folded) else None
    except Exception:
        # Whatever a scheduler does with unit vectors or without its clipping: it need not be foldable.
        return None


def _read(scheduler: Any) -> list[_Step]:
    """Every step by itself, on unit vectors."""
    units = torch.eye(_WIDTH, dtype=torch.float64).reshape(_WIDTH, 1, 1, 1, _WIDTH)
    walker = _started(scheduler)
    known: list[tuple[str, int | None]] = []
    steps = []
    for timestep in walker.timesteps:
        for (name, place), unit in zip(known, units[2:], strict=False):
            if place is None:
                setattr(walker, name, unit.clone())
            else:
                getattr(walker, name)[place] = unit.clone()
        scale = _scaled(walker, units[SAMPLE], timestep).flatten()[SAMPLE].item()
        moved = walker.step(units[OUTPUT].clone(), timestep, units[SAMPLE].clone(), return_dict=False)[0]
        width = 2 + len(known)
        known = _memory(walker)
        found = [getattr(walker, name) if place is None else getattr(walker, name)[place] for name, place in known]
        registers = [value.double().flatten().numpy()[:width] for value in found]
        steps.append(_Step(scale, registers, moved.double().flatten().numpy()[:width]))
    return steps


def _memory(walker: Any) -> list[tuple[str, int | None]]:
    """Where a scheduler remembers tensors like the samples: (attribute, place in it if it is a list)."""
    places: list[tuple[str, int | None]] = []
    for name, value in vars(walker).items():
        if isinstance(value, Tensor) and value.ndim == 4:
            places.append((name, None))
        elif isinstance(value, list):
            places += [(name, k) for k, item in enumerate(value) if isinstance(item, Tensor) and item.ndim == 4]
    if len(places) + 2 > _WIDTH:
        raise ValueError(f"{len(places)} tensors remembered")
    return places


def _compacted(steps: Sequence[_Step]) -> tuple[FoldedStep, ...]:
    """Backwards, so that only what a later step needs is computed and kept."""
    folded: list[FoldedStep] = []
    needed: list[int] = []  # registers after the step at hand
    for step in reversed(steps):
        width = len(step.sample)
        made: list[Vector] = []
        rows: list[Row] = []
        kept: dict[int, int] = {}
        for register in sorted(needed, key=lambda register: np.count_nonzero(step.registers[register])):
            terms = _terms(step.registers[register], made)
            if len(terms) == 1 and terms[0][1] == 1.0:
                kept[register] = terms[0][0]  # moved or left as it is: the same tensor under another name
                continue
            kept[register] = width + len(made)
            rows.append(Row(terms))
            made.append(step.registers[register])
        rows.append(Row(_terms(step.sample, made)))
        used = sorted(
            {index for row in rows for index, _ in row.terms if 2 <= index < width}
            | {index for index in kept.values() if 2 <= index < width}
        )
        number = {index: k for k, index in enumerate([SAMPLE, OUTPUT, *used, *range(width, width + len(made))])}
        renamed = tuple(Row(tuple((number[index], factor) for index, factor in row.terms)) for row in rows)
        folded.append(FoldedStep(step.scale, renamed, tuple(number[kept[register]] for register in needed)))
        needed = [index - 2 for index in used]
    return tuple(reversed(folded))


def _terms(vector: Vector, made: Sequence[Vector]) -> tuple[tuple[int, float], ...]:
    """`vector` as the shortest sum, of unit vectors and of what was `made` of them before.

    Of equally short ones that with the smallest numbers, because it cancels least.
    """
    floor = _NOISE * np.abs(vector).max()

    def shortest(rest: Vector, others: Sequence[Vector]) -> tuple[tuple[int, float], ...]:
        rest = np.where(np.abs(rest) > floor, rest, 0.0)
        sums = [tuple((int(k), float(rest[k])) for k in np.flatnonzero(rest))]
        for number, other in enumerate(others):
            for k in np.flatnonzero(other * rest):
                factor = rest[k] / other[k]
                sums.append((*shortest(rest - factor * other, others[:number]), (len(vector) + number, float(factor))))
        return min(sums, key=lambda terms: (len(terms), sum(abs(factor) for _, factor in terms)))

    return shortest(vector, made)


def _read_clipped(scheduler: Any) -> tuple[FoldedStep, ...]:
    """DDIM with ``clip_sample``: x ← a·x + b·output + c·clamp(u·x + v·output)."""
    limit = float(scheduler.config.clip_sample_range)
    linear = type(scheduler).from_config(scheduler.config, clip_sample=False)
    linear.set_timesteps(scheduler.num_inference_steps)
    units = torch.eye(2, dtype=torch.float64).reshape(2, 1, 1, 1, 2)
    steps = []
    for timestep in scheduler.timesteps:
        scale = _scaled(copy.deepcopy(linear), units[SAMPLE], timestep).flatten()[0].item()
        free = linear.step(units[OUTPUT], timestep, units[SAMPLE])
        prediction, moved = (value.flatten() for value in (free.pred_original_sample, free.prev_sample))
        # Far outside the limit, the only difference that clamping makes is the weight of the prediction.
        far = torch.zeros(2, 1, 1, 1, 1, dtype=torch.float64)
        side = int(prediction.abs().argmax())
        far[side] = 3 * limit / prediction[side]
        bound, unbound = (
            walker.step(far[OUTPUT], timestep, far[SAMPLE]).prev_sample for walker in (copy.deepcopy(scheduler), linear)
        )
        weight = ((unbound - bound) / (2 * limit)).item()
        rest = (moved - weight * prediction).numpy()
        rest[np.abs(rest) <= _NOISE * moved.abs().max().item()] = 0.0
        sums = [(k, float(rest[k])) for k in (SAMPLE, OUTPUT) if rest[k]]
        rows = (Row(_terms(prediction.numpy(), ()), limit), Row((*sums, (2, weight))))
        steps.append(FoldedStep(scale, rows))
    return tuple(steps)


def _agrees(scheduler: Any, folded: tuple[FoldedStep, ...]) -> bool:
    """Whether both give the same on random numbers, large ones too, in every step, to the accuracy of float32."""
    draw = torch.Generator().manual_seed(0)
    start = 3 * torch.randn((1, 1, 8, 8), generator=draw) * getattr(scheduler, "init_noise_sigma", 1.0)
    answers = torch.randn((len(folded), 1, 1, 8, 8), generator=draw) * 3
    inputs: list[Tensor] = []

    def answer(number: int, latents: Tensor) -> Tensor:
        inputs.append(latents.clone())
        return answers[number]

    inputs.append(run_folded(folded, start.clone(), answer))
    walker, expected = _started(scheduler), start
    for number, timestep in enumerate(walker.timesteps):
        if not _close(inputs[number], _scaled(walker, expected, timestep)):
            return False
        expected = walker.step(answers[number], timestep, expected, return_dict=False)[0]
    return _close(inputs[-1], expected)


def _close(got: Tensor, expected: Tensor) -> bool:
    return bool((got - expected).abs().max() <= 2e-5 * expected.abs().max().clamp(min=1.0))


def _started(scheduler: Any) -> Any:
    walker = copy.deepcopy(scheduler)
    if hasattr(walker, "set_begin_index"):
        walker.set_begin_index(0)
    return walker


def _scaled(walker: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    scaled: Tensor = walker.scale_model_input(latents, timestep) if hasattr(walker, "scale_model_input") else latents
    return scaled
