"""``torchgenaug demo``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from torchgenaug.cli.output import open_console, say


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
    task: Annotated[Task | None, typer.Option(help="Run the built-in studies of this task in place; minutes.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each training (without --task).")] = None,
    ratio: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Synthetic fraction of an epoch (without --task).")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How often to train each network (with --task); default: 5.")
    ] = None,
) -> None:
    """The main job on real brain MR, in about two minutes: sample, render, mix, train, and look.

    With --task: a generator is trained on few real samples, and studies compare mixes of its samples with real data
    repeated, with transforms, and with what more real data would give, on real test data. The results are in
    OUT/TASK; the same files are printed by `torchgenaug study --example NAME`.

    Examples:

        torchgenaug demo

        torchgenaug demo --out /tmp/demo --ratio 0.25

        torchgenaug demo --task classification --seeds 3
    """
    if task is None:
        if seeds is not None:
            raise typer.BadParameter("needs a task.", param_hint="--seeds")
        from torchgenaug.demo.run import run_demo

        run_demo(out, epochs=epochs or 6, ratio=0.4 if ratio is None else ratio, console=open_console())
        return
    if (epochs, ratio) != (None, None):
        raise typer.BadParameter(
            "a study has its own: edit the file that `torchgenaug study --example NAME` prints.",
            param_hint="--epochs, --ratio",
        )
    from torchgenaug.tasks import run_task

    run_task(task.value, out / task.value, seeds=seeds, report=say)
