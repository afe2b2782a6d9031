"""``torchgenaug demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for shards, picture and summary.", envvar="TORCHGENAUG_DEMO_OUT")
    ] = Path("torchgenaug-demo"),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training per source.")] = 6,
    ratio: Annotated[float, typer.Option(min=0.0, max=1.0, help="Synthetic fraction of an epoch.")] = 0.4,
) -> None:
    """The main job on real brain MR, in about two minutes: sample, render, mix, train, and look.

    Examples:

        torchgenaug demo

        torchgenaug demo --out /tmp/demo --ratio 0.25
    """
    from torchgenaug.demo.run import run_demo

    run_demo(out, epochs=epochs, ratio=ratio)
