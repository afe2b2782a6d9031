"""Which tasks there are, and how much work each is to do."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from torchgenaug.demo.threads import torch_threads
from torchgenaug.errors import ConfigurationError
from torchgenaug.tasks.report import Section, write_summary

_TASKS = ("classification", "segmentation", "translation", "volumes")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work a task does; None: its own default, which is made for minutes on two cores.

    Attributes:
        steps: training steps of the generative model.
        seeds: how often each network is trained, with another start each time.
        epochs: epochs of each training.
        synthetic: synthetic samples added to an epoch.
    """

    steps: int | None = None
    seeds: int | None = None
    epochs: int | None = None
    synthetic: int | None = None


def tasks() -> tuple[str, ...]:
    """The names of the tasks."""
    return _TASKS


def run_task(task: str, out: Path, *, effort: Effort | None = None, console: Console | None = None) -> dict[str, Any]:
    """Runs a task; writes generators, shards, pictures and ``summary.json`` into `out`.

    A generator that was trained there before, with the same settings, is used again.

    Args:
        task: one of `tasks()`.
        out: folder for the results; made if it is not there.
        effort: what to change about the task's default effort.
        console: where to print.

    Returns:
        What ``summary.json`` holds.

    Raises:
        ConfigurationError: an unknown task, or an effort below 1.
        MissingExtraError: a package that holds data or networks is not installed.
    """
    if task not in _TASKS:
        raise ConfigurationError(f"`task` must be one of {', '.join(_TASKS)}, got {task!r}.")
    effort = effort or Effort()
    for name in ("steps", "seeds", "epochs", "synthetic"):
        value = getattr(effort, name)
        if value is not None and value < 1:
            raise ConfigurationError(f"`{name}` must be at least 1, got {value!r}.")
    began, console = time.perf_counter(), console or Console()
    out.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"torchgenaug.tasks.{task}")
    with torch_threads(1):  # the pool shares the machine with the training loop
        sections: list[Section] = module.run(out, effort, console)
    return write_summary(task, sections, out, time.perf_counter() - began, console)
