"""`curve_figure`: scores with their intervals along one axis, drawn as SVG: ratio curves and learning curves."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

# Okabe, Ito (2008), "Color universal design".
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#1c1c20", "#707078")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 360, 64, 340, 16, 44


def curve_figure(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], title: str, axis: str, *, logarithmic: bool = False
) -> str:
    """Lines through means, with a bar for each 95 % interval.

    Args:
        curves: name → points ``{x, mean, low, high}``; `low` and `high` may be None.
        title: for readers that do not see it.
        axis: name of the horizontal axis.
        logarithmic: horizontal axis; all x are then above 0.
    """
    points = [point for curve in curves.values() for point in curve]

    def scale(value: float) -> float:
        return math.log(value) if logarithmic else float(value)

    xs: list[float] = [scale(point["x"]) for point in points]
    ys = [value for point in points for value in (point["mean"], point["low"], point["high"]) if value is not None]
    left, right = min(xs), max(xs)
    low, high = float(min(ys)), float(max(ys))
    margin = 0.05 * ((high - low) or 1.0)
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        place: float = (scale(value) - left) / ((right - left) or 1.0)
        return round(_LEFT + place * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    floor = _HEIGHT - _BOTTOM
    parts = [f'<path d="M{_LEFT - 8} {_TOP}V{floor}H{_WIDTH - _RIGHT + 8}" fill="none" stroke="#999"/>']
    parts += [
        f'<text x="{x(value)}" y="{floor + 18}" text-anchor="middle">{value:g}</text>'
        for value in sorted({point["x"] for point in points})
    ]
    parts += [
        f'<text x="{_LEFT - 14}" y="{y(value) + 5}" text-anchor="end">{value:.3f}</text>'
        for value in (low + margin, (low + high) / 2, high - margin)
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(axis)}</text>')
    for k, (name, curve) in enumerate(curves.items()):
        colour, places = _COLOURS[k % len(_COLOURS)], [(x(point["x"]), y(point["mean"])) for point in curve]
        line = " ".join(f"{a},{b}" for a, b in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point, (a, b) in zip(curve, places, strict=True):
            if point["low"] is not None:
                parts.append(
                    f'<line x1="{a}" x2="{a}" y1="{y(point["low"])}" y2="{y(point["high"])}" stroke="{colour}" '
                    'stroke-opacity="0.5"/>'
                )
            parts.append(f'<rect x="{a - 3}" y="{b - 3}" width="6" height="6" fill="{colour}"/>')
        row = _TOP + 14 + 22 * k
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 24}" y="{row - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 40}" y="{row}">{html.escape(name)}</text>')
    height = max(_HEIGHT, _TOP + 14 + 22 * len(curves))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui,sans-serif" font-size="14"><title>{html.escape(title)}</title>{"".join(parts)}</svg>'
    )


def ratio_points(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Dose and response: "plain" or the name of a transform → points over the synthetic fraction, 0 included.

    Empty where no two ratios of the same source were tried.
    """
    curves: dict[str, list[dict[str, Any]]] = {}
    for name, arm in summary["arms"].items():
        own = settings["arms"].get(name, {})
        plain = not {"rule", "schedule"} & own.keys()
        if (
            arm["mean"] is None
            or arm["role"] == "oracle"
            or not plain
            or ("ratio" in own) != (arm["role"] == "synthetic")
        ):
            continue
        if arm["role"] == "control" and own.keys() - {"role", "transform"}:
            continue
        kind = own.get("transform") or "no transform"
        if any(point["x"] == own.get("ratio", 0.0) for point in curves.get(kind, ())):
            kind = name  # another source at the same ratio
        curves.setdefault(kind, []).append(
            {"x": own.get("ratio", 0.0), **{key: arm[key] for key in ("mean", "low", "high")}}
        )
    drawn = {
        kind: sorted(points, key=lambda point: float(point["x"]))
        for kind, points in curves.items()
        if len({point["x"] for point in points}) > 1
    }
    short = [kind.split("(")[0] for kind in drawn]
    # Settings of a transform are too long for a legend, and needed where two transforms differ by them alone.
    return dict(zip(short, drawn.values(), strict=True)) if len(set(short)) == len(short) else drawn
