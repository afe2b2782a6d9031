"""`summarise`: from scores to means, paired differences to the best control, and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from torchgenaug.study.arms import Arm
from torchgenaug.study.results import Run
from torchgenaug.study.statistics import Comparison, compare, interval


def summarise(
    runs: Sequence[Run], arms: Sequence[Arm], metric: str, test_share: float, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """The content of ``summary.json``.

    Args:
        runs: all of them finished.
        arms: of the study, in their order.
        metric: what the score is called.
        test_share: n_test / n_train where splits repeat, else 0.
        notes: what could not be checked.

    Returns:
        ``arms``: name → ``role, mean, low, high, validation, runs``, and for all but controls also ``difference, low``
        and ``high`` of the difference under ``against_best_control``, with ``p_adjusted, effect_size, verdict,
        deciding_repeats, differences``. ``best_control``, ``best_mix`` (both chosen on validation data), ``headroom``
        (True, False; None without an oracle), ``repeats``, ``notes``, ``conclusion``.
    """
    test = {arm.name: _by_repeat([run for run in runs if run.arm == arm.name], "score") for arm in arms}
    validation = {arm.name: _by_repeat([run for run in runs if run.arm == arm.name], "validation") for arm in arms}
    controls = [arm.name for arm in arms if arm.role == "control"]
    synthetic = [arm.name for arm in arms if arm.role == "synthetic"]
    best = max(controls, key=lambda name: float(validation[name].mean()))
    found = compare(
        {name: test[name] - test[best] for name in synthetic}, test_share=test_share, controls=len(controls)
    )
    oracles = {arm.name: test[arm.name] - test[best] for arm in arms if arm.role == "oracle"}
    # Whether there is headroom is another question than whether an arm helps, and is corrected for separately.
    headroom = compare(oracles, test_share=test_share, controls=len(controls))
    rows: dict[str, dict[str, Any]] = {}
    for arm in arms:
        own = interval(test[arm.name], test_share)
        rows[arm.name] = {
            "role": arm.role,
            "mean": own.mean,
            "low": own.low,
            "high": own.high,
            "validation": float(validation[arm.name].mean()),
            "runs": sum(run.arm == arm.name for run in runs),
        }
        compared = {**found, **headroom}.get(arm.name)
        if compared is not None:
            differences = [float(value) for value in test[arm.name] - test[best]]
            rows[arm.name]["against_best_control"] = {**asdict(compared), "differences": differences}
    won = None if not headroom else any(each.verdict == "helps" for each in headroom.values())
    best_mix = max(synthetic, key=lambda name: float(validation[name].mean()), default=None)
    return {
        "metric": metric,
        "steps": runs[0].steps,
        "repeats": len(test[best]),
        "repeated": "splits" if len({run.split for run in runs}) > 1 else "seeds",
        "best_control": best,
        "best_mix": best_mix,
        "headroom": won,
        "arms": rows,
        "conclusion": _conclusion(found, best, best_mix, won),
        "notes": list(notes),
    }


def _by_repeat(runs: Sequence[Run], value: str) -> Any:
    """One number per repeat: per seed with one split, else the mean over seeds of each split."""
    splits = list(dict.fromkeys(run.split for run in runs))
    if len(splits) == 1:
        return np.array([getattr(run, value) for run in runs])
    return np.array([np.mean([getattr(run, value) for run in runs if run.split == split]) for split in splits])


def _conclusion(found: dict[str, Comparison], best: str, best_mix: str | None, headroom: bool | None) -> list[str]:
    """Sentences: what helps, what harms, and what more it takes."""
    sentences = []
    for verdict in ("helps", "harms"):
        names = [name for name, each in found.items() if each.verdict == verdict]
        if names:
            sentences.append(f"Against {best!r}, the best control, {verdict}: {', '.join(map(repr, names))}.")
    if not sentences:
        sentences.append(f"No difference to {best!r}, the best control, was shown.")
    if headroom is False:
        sentences.append(
            "No headroom: not even the oracle was shown to be better than the best control, so synthetic data had "
            "nothing to win here. Train longer, use fewer real samples, or a harder task."
        )
    elif headroom is None:
        sentences.append("Without an oracle arm nobody knows whether there was anything to win.")
    if best_mix is not None and found[best_mix].verdict == "no difference shown":
        needed = found[best_mix].deciding_repeats
        sentences.append(
            f"A difference like that of {best_mix!r}, the best on validation data, would be shown with probability 0.8 "
            + ("by no number of repeats up to 1,000." if needed is None else f"by {needed} repeats.")
        )
    return sentences
