"""Writes ``summary.json``, ``report.md`` and ``report.html``, which needs no other file and no network."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from torchgenaug.study.page import write_page
from torchgenaug.study.results import Run, write_whole
from torchgenaug.study.rows import EXPLAINED, HEADINGS, measure_rows, rows_of


def write_report(
    out: Path,
    summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    runs: Sequence[Run],
    *,
    pictures: Mapping[str, str] | None = None,
) -> None:
    """Writes the three files; each is replaced as a whole.

    Args:
        out: the folder.
        summary: of `summarise_all`.
        settings: of the study.
        runs: what the summary stands on.
        pictures: caption → data URL of a PNG.
    """
    versions = {"torchgenaug": _own_version(), "python": platform.python_version()}
    versions |= {"torch": torch.__version__, "numpy": numpy.__version__}
    document = {"name": settings["name"], **summary, "versions": versions}
    write_whole(out / "summary.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
    lines = sentences(summary, runs)
    write_whole(out / "report.md", _markdown(document, settings, lines))
    write_whole(out / "report.html", write_page(document, settings, lines, pictures or {}))


def _own_version() -> str:
    try:
        return importlib.metadata.version("torchgenaug")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def sentences(summary: Mapping[str, Any], runs: Sequence[Run]) -> list[str]:
    """The conclusion, and what the numbers stand on."""
    minutes = sum(run.seconds for run in runs) / 60
    steps = sorted({run.steps for run in runs})
    basis = (
        f"{len(runs)} runs of {' or '.join(map(str, steps))} optimizer steps, {minutes:.1f} minutes of computation; "
        f"intervals over {summary['repeats']} {summary['repeated']}"
    )
    if summary["repeated"] == "splits":
        basis += ", widened for the overlap of their training sets (Nadeau and Bengio, 2003)."
    else:
        basis += " on one split: they say nothing about other patients."
    return [*summary["conclusion"], basis]


def _markdown(summary: Mapping[str, Any], settings: Mapping[str, Any], lines: Sequence[str]) -> str:
    table = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    table += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows_of(summary)]
    parts = [
        f"# {summary['name']}",
        "\n".join(f"- {line}" for line in lines),
        f"## {summary['metric']} on test data",
        "\n".join(table),
        EXPLAINED,
        *_measures_markdown(summary),
        "## What could not be checked\n\n" + "\n".join(f"- {note}" for note in summary["notes"] or ["Nothing."]),
        "## Configuration\n\n```json\n" + json.dumps([settings, summary["versions"]], indent=2) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _measures_markdown(summary: Mapping[str, Any]) -> list[str]:
    rows = measure_rows(summary)
    if not rows:
        return []
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return ["## Further measures on test data, means", "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])]
