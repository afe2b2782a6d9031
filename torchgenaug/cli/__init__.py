"""The command line: ``torchgenaug {demo, fit, render, evaluate, export, inspect, verify, preview, study}``."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from torchgenaug.cli.demo import demo
from torchgenaug.cli.evaluate import evaluate
from torchgenaug.cli.export import export
from torchgenaug.cli.fit import fit
from torchgenaug.cli.inspect import inspect
from torchgenaug.cli.output import open_console, say
from torchgenaug.cli.preview import preview
from torchgenaug.cli.render import render
from torchgenaug.cli.study import study
from torchgenaug.cli.verify import verify
from torchgenaug.errors import InterruptedTrainingError, TorchGenAugError

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space, then run the same command again."),
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), then run the same command again.",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "Choose a place that this user may write, or have it allowed: chmod -R g+rwX FOLDER",
    ),
}

app = typer.Typer(
    name="torchgenaug",
    help="Train medical-imaging models on real and generated data together.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (demo, fit, render, evaluate, export, inspect, verify, preview, study):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from torchgenaug import __version__

        say(f"torchgenaug {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train medical-imaging models on real and generated data together."""


def _run() -> None:
    command = typer.main.get_command(app)
    if not sys.stderr.isatty() and isinstance(command, TyperGroup):
        command.rich_markup_mode = None  # else errors of usage, and the paths in them, are wrapped in a box
    command(prog_name="torchgenaug")  # also with `python -m`, so that usage and completion name the command


def main() -> None:
    """Runs a command; errors of this package become one message and exit status 1, without a traceback."""
    try:
        _run()
    except TorchGenAugError as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        open_console(stderr=True).print(f"[bold red]Error:[/] {type(error).__name__}", highlight=False)
        say(f"{error}{notes}", stderr=True)
        sys.exit(130 if isinstance(error, InterruptedTrainingError) else 1)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        open_console(stderr=True).print("[bold red]Error:[/] OSError", highlight=False)
        place = "" if error.filename is None else f"{error.filename}: "
        say(f"{place}{error.strerror}. What was complete stays. {remedy}", stderr=True)
        sys.exit(1)
    except KeyboardInterrupt as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        say(f"Interrupted.{notes}", stderr=True)
        sys.exit(130)
