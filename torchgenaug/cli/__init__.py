"""The command line: ``torchgenaug {demo, fit, render, inspect, verify, preview}``."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from torchgenaug.cli.demo import demo
from torchgenaug.cli.fit import fit
from torchgenaug.cli.inspect import inspect
from torchgenaug.cli.preview import preview
from torchgenaug.cli.render import render
from torchgenaug.cli.text import printable
from torchgenaug.cli.verify import verify
from torchgenaug.errors import TorchGenAugError

app = typer.Typer(
    name="torchgenaug",
    help="Train medical-imaging models on real and generated data together.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (demo, fit, render, inspect, verify, preview):
    app.command()(command)


def main() -> None:
    """Runs a command; errors of this package become one message and exit status 1, without a traceback."""
    try:
        app()
    except TorchGenAugError as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        Console(stderr=True).print(f"[bold red]Error:[/] {type(error).__name__}", highlight=False)
        Console(stderr=True).print(printable(f"{error}{notes}"), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        Console(stderr=True).print(f"Interrupted.{notes}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(130)
