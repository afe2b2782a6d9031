"""``torchgenaug demo``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Task(StrEnum):
    """What ``--task`` accepts."""

    classification = "classification"
    segmentation = "segmentation"
    translation = "translation"
    volumes = "volumes"


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for shards, picture and summary.", envvar="TORCHGENAUG_DEMO_OUT")
    ] = Path("torchgenaug-demo"),
    task: Annotated[
        Task | None, typer.Option(help="Train a generator on real data and compare, for this task; minutes.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each training; default: 6, or the task's.")
    ] = None,
    ratio: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Synthetic fraction of an epoch (without --task).")
    ] = 0.4,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of the generator (with --task).")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How often to train each network (with --task).")] = None,
    synthetic: Annotated[
        int | None, typer.Option(min=1, help="Synthetic samples added to an epoch (with --task).")
    ] = None,
) -> None:
    """The main job on real brain MR, in about two minutes: sample, render, mix, train, and look.

    With --task: a generator is trained on few real samples, rendered and pooled, and the mix is compared with real data
    only, real data repeated, and real data with TorchIO, on real test data. The results are in OUT/TASK.

    Examples:

        torchgenaug demo

        torchgenaug demo --out /tmp/demo --ratio 0.25

        torchgenaug demo --task classification --seeds 5
    """
    if task is None:
        if (steps, seeds, synthetic) != (None, None, None):
            raise typer.BadParameter("they need a task.", param_hint="--steps, --seeds, --synthetic")
        from torchgenaug.demo.run import run_demo

        run_demo(out, epochs=epochs or 6, ratio=ratio)
        return
    from torchgenaug.tasks import Effort, run_task

    run_task(task.value, out / task.value, effort=Effort(steps, seeds, epochs, synthetic))
