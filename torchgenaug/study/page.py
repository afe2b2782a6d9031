"""``report.html``: one page that needs no other file and no network, on a screen or a phone."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from torchgenaug.study.curve_figure import curve_figure, ratio_points
from torchgenaug.study.figure import differences_figure
from torchgenaug.study.rows import EXPLAINED, HEADINGS, length_rows, measure_rows, rows_of

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1rem;color:#1c1c20}"
    ".wide{overflow-x:auto}.wide svg{min-width:40rem;max-width:100%}"
    "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}"
    "th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;white-space:nowrap}"
    "img{max-width:100%;height:auto}figure{margin:0 0 1rem}figcaption{color:#555}"
    "pre{background:#f4f4f6;padding:1rem;overflow-x:auto}.helps{color:#00744f}.harms{color:#a33e00}"
    ".warning{border-left:.4rem solid #d55e00;padding-left:.6rem}"
)


def write_page(
    summary: Mapping[str, Any], settings: Mapping[str, Any], lines: Sequence[str], pictures: Mapping[str, str]
) -> str:
    """The page as text.

    Args:
        summary: content of ``summary.json``.
        settings: of the study.
        lines: the conclusion, a sentence each.
        pictures: caption → data URL of a PNG.
    """
    name, control = html.escape(summary["name"]), html.escape(repr(summary["best_control"]))
    items = "".join(f"<li{_mark(line)}>{html.escape(line)}</li>" for line in lines)
    parts = [
        f"<h1>{name}</h1><ul>{items}</ul>",
        f"<h2>{html.escape(summary['metric'])} on test data</h2>{_table([HEADINGS, *rows_of(summary)])}",
        f"<p>{EXPLAINED}</p>",
        f'<h2>Paired differences to {control}</h2><div class="wide">{differences_figure(summary)}</div>',
    ]
    ratios = ratio_points(summary, settings)
    if ratios:
        drawn = curve_figure(ratios, "Score by synthetic fraction", "synthetic fraction")
        parts.append(f'<h2>Dose and response</h2><div class="wide">{drawn}</div>')
    if summary["learning_curves"]:
        curves = {
            arm: [{"x": point["real"], **point} for point in points]
            for arm, points in summary["learning_curves"]["arms"].items()
            if len(points) > 1
        }
        drawn = curve_figure(curves, "Learning curves", "real training samples", logarithmic=True)
        parts.append(f'<h2>Learning curves</h2><div class="wide">{drawn}</div>')
    if summary["lengths"]:
        parts.append(f"<h2>Longer training</h2>{_table(length_rows(summary))}")
    if measure_rows(summary):
        parts.append(f"<h2>Further measures on test data, means</h2>{_table(measure_rows(summary))}")
    if pictures:
        figures = (
            f'<figure><img src="{picture}" alt="{html.escape(caption)}"><figcaption>{html.escape(caption)}</figcaption>'
            "</figure>"
            for caption, picture in pictures.items()
        )
        parts.append(f"<h2>What was mixed</h2><p>Evenly spread over each set, not chosen.</p>{''.join(figures)}")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in summary["notes"] or ["Nothing."])
    configuration = html.escape(json.dumps([settings, summary["versions"]], indent=2))
    parts.append(f"<h2>What could not be checked</h2><ul>{notes}</ul><h2>Configuration</h2><pre>{configuration}</pre>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _mark(line: str) -> str:
    return ' class="warning"' if line.startswith(("Warning", "No headroom")) else ""


def _table(rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join(
        f'<tr class="{html.escape(row[-1])}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows[1:]
    )
    return f'<div class="wide"><table><tr>{heads}</tr>{body}</table></div>'
