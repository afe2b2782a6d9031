"""How many training steps fit into a time limit: measured before the run, with steps that are thrown away."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchgenaug import devices
from torchgenaug.checksums import read_entries, with_checksum
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.recipes import checkpoint
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.options import FitOptions, Options
from torchgenaug.recipes.report import Judge
from torchgenaug.recipes.state import TrainingState

_PLAN = "plan.json"
_TIMED = 3
_MARGIN = 1.15  # steps and reports take longer now and then


@dataclass(frozen=True)
class Pace:
    """What a run costs, in seconds.

    Attributes:
        step: one training step.
        report: judging the model, drawing samples and saving it.
    """

    step: float
    report: float

    def steps_within(self, seconds: float, reports: int) -> int:
        """How many steps fit into `seconds` with so many reports, the last one included."""
        return int((seconds - _MARGIN * self.report * reports) / (_MARGIN * self.step))

    def needed(self, steps: int, reports: int) -> float:
        """Seconds for so many steps and reports."""
        return _MARGIN * (self.step * steps + self.report * reports)


def measure(step: Callable[[], Any], report: Callable[[], Any]) -> Pace:
    """Times a few steps and one report."""
    step()  # the first one also allocates and compiles
    devices.synchronize()
    started = time.monotonic()
    for _ in range(_TIMED):
        step()
    devices.synchronize()
    stepped = time.monotonic()
    report()
    devices.synchronize()
    return Pace((stepped - started) / _TIMED, time.monotonic() - stepped)


def planned(pace: Pace, steps: int, reports: int, seconds: float, minutes: float, *, shrink: bool) -> tuple[int, int]:
    """(steps, reports) of a run that ends within `seconds`.

    Args:
        pace: what a step and a report cost.
        steps: wanted steps.
        reports: wanted reports.
        seconds: what is left of the limit.
        minutes: the limit that the user gave, for errors.
        shrink: take fewer steps where they do not fit; else they are left for the next call.

    Raises:
        ConfigurationError: no time for a single step and a report.
    """
    if pace.steps_within(seconds, 1) < 1:
        spent = 60 * minutes - seconds
        least = (spent + pace.needed(10, 1)) / 60
        full = (spent + pace.needed(steps, reports)) / 60
        raise ConfigurationError(
            f"`max_minutes` must be at least {_rounded_up(least)} for these data on this machine, got {minutes:g}: a "
            f"step takes {pace.step:.2g} s, and judging and saving the model {pace.report:.2g} s. Nothing was trained. "
            f"All {steps} steps take about {_rounded_up(full)} minutes. Give that time, or less work: smaller images "
            "(--size), --width, --sampling-steps."
        )
    # At most a third of the time goes into reports before the last.
    reports = max(1, min(reports, 1 + int(seconds / 3 / max(pace.report, 1e-9))))
    if not shrink:
        return steps, reports
    return max(1, min(steps, pace.steps_within(seconds, reports))), reports


def _rounded_up(minutes: float) -> str:
    return f"{max(0.1, minutes) + 0.05:.1f}"


@dataclass(frozen=True)
class Schedule:
    """What a run does.

    Attributes:
        steps: training steps in all.
        reports: how many reports on the way.
        report_seconds: what one costs.
    """

    steps: int
    reports: int
    report_seconds: float = 0.0


def plan_run(
    family: str,
    data: TrainingData,
    recipe: Options,
    options: FitOptions,
    accelerator: Any,
    judge: Judge | None,
    folder: Path,
    started: float,
    *,
    shrink: bool,
) -> Schedule:
    """The schedule of a run in `folder`: shorter than the family's own where `max_minutes` asks for it.

    A run that goes on keeps the schedule with which it began. All processes come to the same.

    Raises:
        ConfigurationError: a limit in which no usable model can be trained.
    """
    steps, reports = recipe.steps or 1, options.reports
    begun = (folder / "checkpoint.pt").exists()
    if begun and shrink:
        steps = _noted(folder, steps)
    if options.max_minutes is None:
        return Schedule(steps, reports)
    torch.manual_seed(options.seed)
    scratch = TrainingState(build_recipe(family, data, recipe), accelerator, options)
    rank, world_size = accelerator.process_index, accelerator.num_processes
    batches = training_batches(data, recipe.batch_size or 1, augment=options.augment, rank=rank, world_size=world_size)
    # Families of several stages change their networks with the progress: it is timed from the first stage to the last.
    progress = iter([0.0, 0.05, 0.5, 0.95])
    pace = measure(
        lambda: scratch.train_step(batches, next(progress)),
        lambda: None if judge is None else judge.distance(judge.samples(scratch.synthesizer())),
    )
    left = 60 * options.max_minutes - (time.monotonic() - started)
    plan = planned(pace, steps, reports, left, options.max_minutes, shrink=shrink and not begun)
    if world_size > 1:
        from accelerate.utils import broadcast

        agreed = broadcast(torch.tensor([*plan], device=accelerator.device))
        plan = (int(agreed[0]), int(agreed[1]))
    if plan[0] < steps and accelerator.is_main_process:
        _note(folder, plan[0])
        warnings.warn(
            f"{plan[0]} of {steps} steps fit into {options.max_minutes:g} min: the whole schedule is shortened to "
            f"them, and samples will be worse. All steps take about {_rounded_up(pace.needed(steps, reports) / 60)} "
            "minutes.",
            stacklevel=3,
        )
    return Schedule(*plan, report_seconds=_MARGIN * pace.report)


def _note(folder: Path, steps: int) -> None:
    checkpoint.replace_file(folder / _PLAN, json.dumps(with_checksum({"steps": steps})).encode())


def _noted(folder: Path, steps: int) -> int:
    """The shortened number of steps with which the run in `folder` began, if it was."""
    path = folder / _PLAN
    if not path.exists():
        return steps
    try:
        noted = int(read_entries(path)["steps"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise SynthesizerLoadError(
            f"{path} must hold the number of steps, got {error!r}. It was damaged. Begin again with --fresh."
        ) from error
    return noted
