"""The command line: ``torchgenaug {demo, fit, render, evaluate, export, inspect, verify, preview, study}``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

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


def main() -> None:
    """Runs a command; errors of this package become one message and exit status 1, without a traceback."""
    try:
        app()
    except TorchGenAugError as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        open_console(stderr=True).print(f"[bold red]Error:[/] {type(error).__name__}", highlight=False)
        say(f"{error}{notes}", stderr=True)
        sys.exit(130 if isinstance(error, InterruptedTrainingError) else 1)
    except KeyboardInterrupt as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        say(f"Interrupted.{notes}", stderr=True)
        sys.exit(130)
