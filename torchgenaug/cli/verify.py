"""``torchgenaug verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(path: Annotated[Path, typer.Argument(help="A shard folder.", show_default=False)]) -> None:
    """Reads every byte of a shard folder and compares checksums; exit status 1 and the ids if anything is wrong.

    Example:

        torchgenaug verify shards
    """
    from rich.console import Console

    from torchgenaug import verify_shards

    console = Console()
    with console.status("reading") as status:
        report = verify_shards(path, progress=lambda done, total: status.update(f"reading file {done} of {total}"))
    console.print(str(report), markup=False, highlight=False, soft_wrap=True)
    if not report.ok:
        raise typer.Exit(1)
