"""`summarise_all`: from scores to means, paired differences to the best control, verdicts, lengths and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from torchgenaug.study.arms import Arm
from torchgenaug.study.curves import learning_curves, worth_sentences
from torchgenaug.study.lengths import compare_lengths
from torchgenaug.study.results import Run
from torchgenaug.study.statistics import LEAST_REPEATS, Comparison, compare, interval


def summarise(
    runs: Sequence[Run], arms: Sequence[Arm], metric: str, test_share: float, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Means, paired differences to the best control, and verdicts, of runs of one length on all real data.

    Args:
        runs: all of them finished; an arm may have none.
        arms: of the study, in their order.
        metric: what the score is called.
        test_share: n_test / n_train where splits repeat, else 0.
        notes: what could not be checked.

    Returns:
        ``arms``: name → ``role, mean, low, high, validation, scores, runs, measures``, and for all but controls also
        ``difference, low`` and ``high`` of the difference under ``against_best_control``, with ``p_adjusted,
        effect_size, verdict, deciding_repeats, differences``. ``best_control``, ``best_mix`` (both chosen on validation
        data), ``headroom`` (True, False; None without an oracle or with fewer than three repeats), ``repeats``,
        ``notes``, ``conclusion``.
    """
    trained = {run.arm for run in runs}
    present = [arm for arm in arms if arm.name in trained]
    test = {arm.name: _by_repeat([run for run in runs if run.arm == arm.name], "score") for arm in present}
    validation = {arm.name: _by_repeat([run for run in runs if run.arm == arm.name], "validation") for arm in present}
    controls = [arm.name for arm in present if arm.role == "control"]
    synthetic = [arm.name for arm in present if arm.role == "synthetic"]
    best = max(controls, key=lambda name: float(validation[name].mean()))
    found = compare(
        {name: test[name] - test[best] for name in synthetic}, test_share=test_share, controls=len(controls)
    )
    oracles = {arm.name: test[arm.name] - test[best] for arm in present if arm.role == "oracle"}
    # Whether there is headroom is another question than whether an arm helps, and is corrected for separately.
    headroom = compare(oracles, test_share=test_share, controls=len(controls))
    references = compare(
        {arm.name: test[arm.name] - test[best] for arm in present if arm.role == "reference"},
        test_share=test_share,
        controls=len(controls),
    )
    rows: dict[str, dict[str, Any]] = {}
    for arm in arms:
        if arm.name not in trained:
            rows[arm.name] = {"role": arm.role, **_UNTRAINED}
            continue
        own = interval(test[arm.name], test_share)
        rows[arm.name] = {
            "role": arm.role,
            "mean": own.mean,
            "low": own.low,
            "high": own.high,
            "validation": float(validation[arm.name].mean()),
            "scores": [float(value) for value in test[arm.name]],
            "runs": sum(run.arm == arm.name for run in runs),
            "measures": _measures([run for run in runs if run.arm == arm.name]),
        }
        compared = {**found, **headroom, **references}.get(arm.name)
        if compared is not None:
            differences = [float(value) for value in test[arm.name] - test[best]]
            rows[arm.name]["against_best_control"] = {**asdict(compared), "differences": differences}
    decided = headroom and len(test[best]) >= LEAST_REPEATS
    won = any(each.verdict == "helps" for each in headroom.values()) if decided else None
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
        "conclusion": [
            *_conclusion(found, best, best_mix, won, bool(oracles)),
            *_beaten_by(references, rows, best_mix),
        ],
        "notes": list(notes),
    }


_UNTRAINED: Mapping[str, Any] = {
    **dict.fromkeys(("mean", "low", "high", "validation")),
    "scores": [],
    "runs": 0,
    "measures": {},
    "against_best_control": {
        **dict.fromkeys(("difference", "low", "high", "p_adjusted", "effect_size", "deciding_repeats")),
        "verdict": "no difference shown",
        "differences": [],
    },
}


def summarise_all(
    runs: Sequence[Run],
    arms: Sequence[Arm],
    metric: str,
    test_share: float,
    notes: Sequence[str] = (),
    *,
    stopped: bool = False,
) -> dict[str, Any]:
    """The content of ``summary.json``: `summarise` of the first training length, further lengths, learning curves.

    Args:
        runs: all of them finished; those of the first length on all data come first.
        arms: as in `summarise`, with `metric`, `test_share` and `notes`.
        metric: what the score is called.
        test_share: see `summarise`.
        notes: what could not be checked.
        stopped: whether arms with synthetic data were left out for want of headroom.
    """
    whole = [run for run in runs if run.share == 1]
    by_length = {steps: [run for run in whole if run.steps == steps] for steps in dict.fromkeys(r.steps for r in whole)}
    summaries = [summarise(each, arms, metric, test_share, notes) for each in by_length.values()]
    first = summaries[0]
    curves = learning_curves([run for run in runs if run.steps == first["steps"]], arms, first["best_control"])
    conclusion = [
        *first["conclusion"],
        *compare_lengths(summaries, test_share),
        *worth_sentences(curves, first["best_mix"]),
    ]
    if stopped:
        left_out = [arm.name for arm in arms if arm.role == "synthetic"]
        conclusion = [
            *(line for line in conclusion if line.startswith("No headroom")),
            f"Stopped here: the arms {', '.join(map(repr, left_out))} were not trained. To train them all the same: "
            "past_no_headroom = true.",
        ]
    lengths = {
        str(each["steps"]): {"best_control": each["best_control"], "arms": each["arms"]} for each in summaries[1:]
    }
    return {**first, "conclusion": conclusion, "stopped": stopped, "lengths": lengths, "learning_curves": curves}


def _measures(runs: Sequence[Run]) -> dict[str, float]:
    """Means of all measures over the runs that have them."""
    names = dict.fromkeys(name for run in runs for name in run.measures)
    return {name: float(np.mean([run.measures[name] for run in runs if name in run.measures])) for name in names}


def _by_repeat(runs: Sequence[Run], value: str) -> Any:
    """One number per repeat: per seed with one split, else the mean over seeds of each split."""
    splits = list(dict.fromkeys(run.split for run in runs))
    if len(splits) == 1:
        return np.array([getattr(run, value) for run in runs])
    return np.array([np.mean([getattr(run, value) for run in runs if run.split == split]) for split in splits])


def _conclusion(
    found: dict[str, Comparison], best: str, best_mix: str | None, headroom: bool | None, has_oracle: bool
) -> list[str]:
    """Sentences: what helps, what harms, and what more it takes."""
    sentences = []
    for verdict in ("helps", "harms"):
        names = [name for name, each in found.items() if each.verdict == verdict]
        if names:
            sentences.append(f"Against {best!r}, the best control, {verdict}: {', '.join(map(repr, names))}.")
    if not sentences and found:
        sentences.append(f"No difference to {best!r}, the best control, was shown.")
    if headroom is False:
        sentences.append(
            "No headroom: not even the oracle was shown to be better than the best control, so synthetic data had "
            "nothing to win here. Train longer, use fewer real samples, or a harder task."
        )
    elif headroom is None and has_oracle:
        sentences.append("With fewer than three repeats the oracle cannot show whether there was anything to win.")
    elif headroom is None:
        sentences.append("Without an oracle arm nobody knows whether there was anything to win.")
    if best_mix is not None and found[best_mix].verdict == "no difference shown":
        needed = found[best_mix].deciding_repeats
        sentences.append(
            f"A difference like that of {best_mix!r}, the best on validation data, would be shown with probability 0.8 "
            + ("by no number of repeats up to 1,000." if needed is None else f"by {needed} repeats.")
        )
    return sentences


def _beaten_by(references: Mapping[str, Comparison], rows: Mapping[str, Any], best_mix: str | None) -> list[str]:
    """What a reference reaches, where it is better than every mix."""
    if best_mix is None:
        return []
    score = rows[best_mix]["mean"]
    return [
        f"For comparison: {name!r} scores {rows[name]['mean']:.4f}, {rows[name]['mean'] - score:+.4f} to {best_mix!r}."
        for name in references
    ]
