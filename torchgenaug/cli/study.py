"""``torchgenaug study``."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from torchgenaug.cli.output import counted, say
from torchgenaug.errors import ConfigurationError
from torchgenaug.local_paths import check_place
from torchgenaug.study.examples import EXAMPLES


def study(
    file: Annotated[Path | None, typer.Argument(help="TOML file that describes the study.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results, reports and trained generators.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the splits, state runs and time; nothing else.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the runs.")] = 1,
    example: Annotated[
        str | None,
        typer.Option(help=f"Print a complete file to start from: {', '.join(EXAMPLES)}."),
    ] = None,
) -> None:
    """Whether synthetic data help: arms at equal optimizer steps, over seeds and splits, with intervals and a verdict.

    Interrupt it at any time: the same command goes on. Further processes, also on other machines that see the folder,
    share the runs. Writes results.jsonl, summary.json, report.md and report.html.

    Examples:

        torchgenaug study --example digits > digits.toml

        torchgenaug study digits.toml --out digits-study --dry-run

        torchgenaug study digits.toml --out digits-study --jobs 4
    """
    from torchgenaug.study.config import load_study
    from torchgenaug.study.rows import lines_of
    from torchgenaug.study.splits import check_split

    if example is not None:
        if example not in EXAMPLES:
            close = difflib.get_close_matches(example, EXAMPLES, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else " `own` is for data of your own."
            raise ConfigurationError(f"`--example` must be one of {', '.join(EXAMPLES)}, got {example!r}.{hint}")
        typer.echo(EXAMPLES[example], nl=False)
        return
    if file is None or out is None:
        raise ConfigurationError(
            "`FILE` and `--out` must both be given. For example: torchgenaug study digits.toml --out digits-study. "
            "Print a file to start from: torchgenaug study --example digits"
        )
    check_place(out)
    loaded = load_study(file, out)
    if dry_run:
        for split in loaded.splits:
            check_split(split)
        missing, seconds = loaded.remaining(out)
        seconds = loaded.estimate() if seconds is None else seconds
        say(
            f"{missing} of {counted(len(loaded.keys()), 'run')} to do: {counted(len(loaded.arms), 'arm')}, "
            f"{counted(len(loaded.seeds), 'seed')}, {counted(len(loaded.splits), 'split')}, "
            f"{counted(loaded.steps, 'step')} each. About {seconds / 60 / jobs:.1f} minutes with "
            f"{counted(jobs, 'process') if jobs == 1 else f'{jobs} processes'}; training a generator is not counted."
        )
        return
    others = _start(jobs - 1, file, out, jobs)
    try:
        summary = loaded.run(out, report=say)
    finally:
        for process in others:
            process.terminate()
            process.wait()
    say(*lines_of(summary))
    say(f"Written: {out / 'report.html'}")


def _start(count: int, file: Path, out: Path, jobs: int) -> list[subprocess.Popen[bytes]]:
    """Further processes of the same command, with a share of the cores each."""
    if count < 1:
        return []
    import torch

    threads = max(1, (os.cpu_count() or 1) // jobs)
    torch.set_num_threads(threads)
    command = [sys.executable, "-m", "torchgenaug.cli", "study", str(file), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603 (this very command)
        for _ in range(count)
    ]
