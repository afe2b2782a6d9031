"""Tables of a report as rows of text: arms with their verdicts, further measures, other training lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADINGS = ("arm", "role", "score", "95 % interval", "difference", "95 % interval", "adjusted p", "verdict")
EXPLAINED = (
    "Differences are paired and taken to the best control, which was chosen on validation data. p-values are adjusted "
    "for the number of arms (Holm, 1979), and those of losses also for the number of controls; intervals are not."
)


def rows_of(summary: Mapping[str, Any]) -> list[list[str]]:
    """A row of text for each arm."""
    rows = []
    for name, arm in summary["arms"].items():
        against = arm.get("against_best_control")
        if arm["mean"] is None:
            rows.append([name, arm["role"], "not trained", *[""] * (len(HEADINGS) - 4), "no difference shown"])
            continue
        row = [name, arm["role"], f"{arm['mean']:.4f}", _interval(arm)]
        if against is None or against["difference"] is None:
            best = "best control" if name == summary["best_control"] else ""
            rows.append([*row, "", "", "", best])
            continue
        p = against["p_adjusted"]
        row += [f"{against['difference']:+.4f}", _interval(against, sign="+")]
        rows.append([*row, "" if p is None else f"{p:.4f}", against["verdict"]])
    return rows


def lines_of(summary: Mapping[str, Any]) -> list[str]:
    """A line of text for each arm, and the conclusion."""
    lines = []
    for name, _, score, own, difference, interval, p, verdict in rows_of(summary):
        compared = f"; {difference} ({interval}), adjusted p {p or 'none'}" if difference else ""
        lines.append(f"{name}: {score} ({own}){compared}{': ' if verdict else ''}{verdict}")
    return [*lines, *summary["conclusion"]]


def _interval(values: Mapping[str, Any], sign: str = "") -> str:
    if values["low"] is None:
        return "none"
    return f"{values['low']:{sign}.4f} to {values['high']:{sign}.4f}"


def measure_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """A heading and a row for each arm; empty where the score function returns a single number."""
    names = list(dict.fromkeys(name for arm in summary["arms"].values() for name in arm["measures"]))
    if not names:
        return []
    rows = [["arm", *names]]
    for arm, values in summary["arms"].items():
        if values["measures"]:
            found = [values["measures"].get(name) for name in names]
            rows.append([arm, *("undefined" if value is None else f"{value:.4g}" for value in found)])
    return rows


def length_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """A heading, and a row for each arm and further training length."""
    rows = [["steps", "arm", "score", "difference", "verdict"]]
    for steps, found in summary["lengths"].items():
        for name, arm in found["arms"].items():
            if arm["mean"] is None:
                continue
            against = arm.get("against_best_control")
            best = "best control" if name == found["best_control"] else ""
            compared = ["", best] if against is None else [f"{against['difference']:+.4f}", against["verdict"]]
            rows.append([steps, name, f"{arm['mean']:.4f}", *compared])
    return rows if len(rows) > 1 else []
