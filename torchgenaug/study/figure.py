"""`differences_figure`: every paired difference as a dot, with its mean and interval, drawn as SVG."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

# Okabe, Ito (2008), "Color universal design": distinguishable with every common kind of colour blindness.
_COLOURS = {"helps": "#009e73", "no difference shown": "#707078", "harms": "#d55e00"}
_WIDTH, _RIGHT, _ROW, _TOP = 900, 40, 40, 14
_LETTER, _LEAST_LEFT, _MOST_LEFT = 7.5, 120, 420  # of names beside the figure


def differences_figure(summary: Mapping[str, Any]) -> str:
    """One line per arm: dots for repeats, a bar for the 95 % interval, a tick for the mean; 0 is the best control."""
    rows = [
        (name, arm["against_best_control"])
        for name, arm in summary["arms"].items()
        if arm.get("against_best_control", {}).get("difference") is not None
    ]
    left = round(min(_MOST_LEFT, max(_LEAST_LEFT, 24 + _LETTER * max((len(name) for name, _ in rows), default=0))))
    values = [0.0]
    for _, row in rows:
        values += [*row["differences"], *(end for end in (row["low"], row["high"]) if end is not None)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(left + (value - low) / span * (_WIDTH - left - _RIGHT), 1)

    height = _TOP + _ROW * len(rows) + 30
    bottom = height - 26
    parts = [f'<line x1="{x(0)}" x2="{x(0)}" y1="{_TOP}" y2="{bottom}" stroke="#1c1c20"/>']
    parts += [
        f'<text x="{x(value)}" y="{height - 8}" text-anchor="middle">{value:+.3f}</text>'
        for value in sorted({low, 0.0, high})
        if value == 0.0 or abs(x(value) - x(0)) > 50
    ]
    for k, (name, row) in enumerate(rows):
        y, colour = _TOP + _ROW * k + _ROW // 2, _COLOURS[row["verdict"]]
        parts.append(f'<text x="{left - 14}" y="{y + 5}" text-anchor="end">{html.escape(name)}</text>')
        if row["low"] is not None:
            width = round(x(row["high"]) - x(row["low"]), 1)
            parts.append(
                f'<rect x="{x(row["low"])}" y="{y - 5}" width="{max(width, 1)}" height="10" fill="{colour}" '
                'fill-opacity="0.3"/>'
            )
        mean = x(row["difference"])
        parts.append(f'<line x1="{mean}" x2="{mean}" y1="{y - 10}" y2="{y + 10}" stroke="{colour}" stroke-width="3"/>')
        parts += [f'<circle cx="{x(each)}" cy="{y}" r="3.5" fill="{colour}"/>' for each in row["differences"]]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui,sans-serif" font-size="14"><title>Paired differences</title>{"".join(parts)}</svg>'
    )
