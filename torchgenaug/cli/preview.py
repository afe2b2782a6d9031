"""``torchgenaug preview``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torchgenaug import ShardSource


def preview(
    path: Annotated[Path, typer.Argument(help="A shard folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("preview.png"),
    count: Annotated[int, typer.Option(min=1, help="How many samples, evenly spaced over the folder.")] = 16,
    rotate: Annotated[int, typer.Option(help="Counter-clockwise quarter turns; 1 turns (x, y) arrays upright.")] = 0,
) -> None:
    """Draws a contact sheet of a shard folder.

    Example:

        torchgenaug preview shards --out preview.png --count 25
    """
    from rich.console import Console

    from torchgenaug import ShardSource

    Console().print(f"Look at {draw(ShardSource(path), out, count, rotate)}.")


def draw(source: ShardSource, path: Path, count: int, rotate: int = 0) -> Path:
    """A contact sheet of `count` samples of a source, evenly spaced; with their ids and seeds."""
    import numpy as np

    from torchgenaug.pictures import contact_sheet

    positions = np.unique(np.linspace(0, len(source) - 1, count).astype(np.int64))
    batch, ids, seeds = source.read(positions), source.ids(positions), source.seeds(positions)
    samples = [
        {"id": int(ids[row]), "seed": int(seeds[row])} | {name: values[row] for name, values in batch.items()}
        for row in range(len(positions))
    ]
    return contact_sheet(samples, source.fields, path, rotate=rotate)
