"""Learning curves: scores against the number of real training samples, and what synthetic samples are worth in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from torchgenaug.study.arms import Arm
from torchgenaug.study.results import Run
from torchgenaug.study.statistics import interval


def learning_curves(runs: Sequence[Run], arms: Sequence[Arm], control: str) -> dict[str, Any]:
    """Scores of each arm for each fraction of the real data, and what synthetic samples are worth.

    Args:
        runs: of one training length, with one fraction of the real data or several.
        arms: of the study.
        control: the best control, whose curve is the scale.

    Returns:
        Empty with a single fraction. Else ``arms``: name → points ``{share, real, mean, low, high}``, and ``worth``:
        name → for each point how many real samples the control needs for the same score (interpolated on the logarithm
        of their number), and on which side of the control's curve the score lies where that gives none: ``"below"`` or
        ``"above"``. Intervals are over seeds and splits together.
    """
    shares = sorted({run.share for run in runs})
    if len(shares) < 2:
        return {}
    points: dict[str, list[dict[str, Any]]] = {}
    for arm in arms:
        for share in shares:
            own = [run for run in runs if run.arm == arm.name and run.share == share]
            if own:
                found = interval([run.score for run in own])
                real = round(float(np.mean([run.real for run in own])))
                points.setdefault(arm.name, []).append(
                    {"share": share, "real": real, "mean": found.mean, "low": found.low, "high": found.high}
                )
    roles = {arm.name: arm.role for arm in arms}
    worth = {
        name: [{"real": point["real"], "like": real_equivalent(points[control], point["mean"])} for point in curve]
        for name, curve in points.items()
        if roles[name] == "synthetic"
    }
    return {"arms": points, "worth": worth}


def real_equivalent(curve: Sequence[Mapping[str, Any]], score: float) -> float | str:
    """How many real samples a curve needs for a score; ``"below"`` or ``"above"`` where its scores do not reach it.

    Between points the score is linear in the logarithm of the number of samples; where the curve falls, it is taken to
    stay at its best score so far.

    Args:
        curve: points with ``real`` and ``mean``, by growing ``real``.
        score: what is to be reached.

    Example:
        >>> real_equivalent([{"real": 10, "mean": 0.5}, {"real": 1000, "mean": 0.7}], 0.6)
        100.0
    """
    numbers = np.log([point["real"] for point in curve])
    scores = np.maximum.accumulate([point["mean"] for point in curve])
    if score < scores[0]:
        return "below"
    if score > scores[-1]:
        return "above"
    place = max(1, int(np.searchsorted(scores, score)))
    low, high = scores[place - 1], scores[place]
    part = 0.0 if high == low else (score - low) / (high - low)
    return round(float(np.exp(numbers[place - 1] + part * (numbers[place] - numbers[place - 1]))), 1)


def worth_sentences(curves: Mapping[str, Any], best_mix: str | None) -> list[str]:
    """One sentence on what the best mix is worth for each number of real samples."""
    if not curves or best_mix not in curves["worth"]:
        return []
    texts = []
    largest = max(point["real"] for points in curves["arms"].values() for point in points)
    for point in curves["worth"][best_mix]:
        like, real = point["like"], point["real"]
        if like == "above":
            texts.append(f"{real} real samples with it score more than {largest} without")
        elif like == "below":
            texts.append(f"{real} with it score less than the fewest without")
        else:
            texts.append(f"{real} with it score like {like:.0f} without, {like - real:+.0f}")
    return [f"Worth of {best_mix!r} in real samples of the best control: {'; '.join(texts)}."]
