"""``torchgenaug verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchgenaug.cli.options import AsJson


def verify(
    path: Annotated[Path, typer.Argument(help="A shard folder.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Reads every byte of a shard folder and compares checksums; exit status 1 and the ids if anything is wrong.

    Examples:

        torchgenaug verify shards

        torchgenaug verify shards --json
    """
    import json

    from torchgenaug import verify_shards
    from torchgenaug.cli.output import open_console, say
    from torchgenaug.progress import minute_lines

    console = open_console()
    if as_json or not console.is_terminal:
        report = verify_shards(path, progress=minute_lines("verified", "files"))
    else:
        with console.status("reading") as status:
            report = verify_shards(path, progress=lambda done, total: status.update(f"reading file {done} of {total}"))
    if as_json:
        facts = {
            "path": str(path),
            "ok": report.ok,
            "bytes": report.num_bytes,
            "damaged": report.damaged,
            "damaged_shards": list(report.damaged_shards),
            "missing_shards": list(report.missing_shards),
            "bad_ids": [[ids.start, ids.stop - 1] for ids in report.bad_ids],
            "next_step": report.next_step or None,
        }
        print(json.dumps(facts, indent=2))
    else:
        say(str(report))
    if not report.ok:
        raise typer.Exit(1)
