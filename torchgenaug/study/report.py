"""Writes ``summary.json``, ``report.md`` and ``report.html``, which needs no other file and no network."""

from __future__ import annotations

import html
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from torchgenaug.study.figure import differences_figure
from torchgenaug.study.results import Run, write_whole

_HEADINGS = ("arm", "role", "score", "95 % interval", "difference", "95 % interval", "adjusted p", "verdict")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c20}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}"
    "pre{background:#f4f4f6;padding:1rem;overflow-x:auto}.helps{color:#00744f}.harms{color:#a33e00}"
)


def write_report(out: Path, summary: Mapping[str, Any], settings: Mapping[str, Any], runs: Sequence[Run]) -> None:
    """Writes the three files; each is replaced as a whole."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}
    document = {"name": settings["name"], **summary, "versions": versions}
    write_whole(out / "summary.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
    lines = sentences(summary, runs)
    write_whole(out / "report.md", _markdown(document, settings, lines))
    write_whole(out / "report.html", _html(document, settings, lines))


def sentences(summary: Mapping[str, Any], runs: Sequence[Run]) -> list[str]:
    """The conclusion, and what the numbers stand on."""
    minutes = sum(run.seconds for run in runs) / 60
    basis = (
        f"{len(runs)} runs of {summary['steps']} optimizer steps each, {minutes:.1f} minutes of computation; "
        f"intervals over {summary['repeats']} {summary['repeated']}"
    )
    if summary["repeated"] == "splits":
        basis += ", widened for the overlap of their training sets (Nadeau and Bengio, 2003)."
    else:
        basis += " on one split: they say nothing about other patients."
    return [*summary["conclusion"], basis]


def rows_of(summary: Mapping[str, Any]) -> list[list[str]]:
    """A row of text for each arm."""
    rows = []
    for name, arm in summary["arms"].items():
        against = arm.get("against_best_control")
        row = [name, arm["role"], f"{arm['mean']:.4f}", _interval(arm)]
        if against is None:
            best = "best control" if name == summary["best_control"] else ""
            rows.append([*row, "", "", "", best])
            continue
        p = against["p_adjusted"]
        row += [f"{against['difference']:+.4f}", _interval(against, sign="+")]
        rows.append([*row, "" if p is None else f"{p:.4f}", against["verdict"]])
    return rows


def _interval(values: Mapping[str, Any], sign: str = "") -> str:
    if values["low"] is None:
        return "none"
    return f"{values['low']:{sign}.4f} to {values['high']:{sign}.4f}"


def _markdown(summary: Mapping[str, Any], settings: Mapping[str, Any], lines: Sequence[str]) -> str:
    table = ["| " + " | ".join(_HEADINGS) + " |", "|" + "---|" * len(_HEADINGS)]
    table += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows_of(summary)]
    parts = [
        f"# {summary['name']}",
        "\n".join(f"- {line}" for line in lines),
        f"## {summary['metric']} on test data",
        "\n".join(table),
        _EXPLAINED,
        "## What could not be checked\n\n" + "\n".join(f"- {note}" for note in summary["notes"] or ["Nothing."]),
        "## Configuration\n\n```json\n" + json.dumps([settings, summary["versions"]], indent=2) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


_EXPLAINED = (
    "Differences are paired and taken to the best control, which was chosen on validation data. p-values are adjusted "
    "for the number of arms (Holm, 1979), and those of losses also for the number of controls; intervals are not."
)


def _html(summary: Mapping[str, Any], settings: Mapping[str, Any], lines: Sequence[str]) -> str:
    escape = html.escape
    heads = "".join(f"<th>{escape(each)}</th>" for each in _HEADINGS)
    body = "".join(
        f'<tr class="{escape(row[-1])}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows_of(summary)
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in summary["notes"] or ["Nothing."])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(summary["name"])}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(summary['name'])}</h1>"
        f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        f"<h2>{escape(summary['metric'])} on test data</h2><table><tr>{heads}</tr>{body}</table><p>{_EXPLAINED}</p>"
        f"<h2>Paired differences to {escape(repr(summary['best_control']))}</h2>{differences_figure(summary)}"
        f"<h2>What could not be checked</h2><ul>{notes}</ul>"
        f"<h2>Configuration</h2><pre>{escape(json.dumps([settings, summary['versions']], indent=2))}</pre>"
        "</body></html>\n"
    )
