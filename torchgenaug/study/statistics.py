"""Compares the scores of two arms over repeats: interval, p-value, Holm's correction, effect size, and a verdict.

A *repeat* is one paired difference: a seed where the study has one split, or the mean over seeds of a split where it
has several, because seeds on the same data are not independent evidence about other data.

References:
    Nadeau, Bengio (2003). Inference for the generalization error. Machine Learning 52, 239 (eq. 8: the variance of a
    mean over J resplits is (1/J + n_test/n_train) times their sample variance, as their training sets overlap).
    Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 65.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["helps", "no difference shown", "harms"]

LEVEL = 0.05
"""Probability, at most, that a study without any effect claims one."""
LEAST_REPEATS = 3
_POWER, _MOST = 0.8, 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over repeats with its 95 % interval.

    Attributes:
        mean: over repeats.
        low: lower end; None with fewer than three repeats.
        high: upper end.
        p: two-sided p-value of a mean of 0; None with fewer than three repeats.
        effect_size: mean divided by the standard deviation over repeats; None where that is 0 or unknown.
        repeats: how many.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    effect_size: float | None
    repeats: int


def interval(values: Sequence[float] | npt.NDArray[np.float64], test_share: float = 0.0) -> Interval:
    """Mean and 95 % t interval of one value per repeat.

    Args:
        values: one number per repeat.
        test_share: n_test / n_train where the repeats are splits of the same samples; 0 for seeds on one split.

    Example:
        >>> found = interval([0.10, 0.12, 0.14])
        >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
        (0.12, 0.07, 0.17)
    """
    from scipy import stats

    numbers = np.asarray(values, np.float64)
    count, mean = len(numbers), float(numbers.mean())
    if count < LEAST_REPEATS:
        return Interval(mean, None, None, None, None, count)
    spread = float(numbers.std(ddof=1))
    if spread <= 1e-12 * max(1.0, abs(mean)):
        # All alike: t would be infinite after any number of repeats. The sign test does not divide by the spread.
        return Interval(mean, mean, mean, 2.0 ** (1 - count) if mean else 1.0, None, count)
    error = spread * math.sqrt(1 / count + test_share)
    half = float(stats.t.ppf(0.975, count - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, count - 1))
    return Interval(mean, mean - half, mean + half, p, mean / spread, count)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm, 1979): in their order, each at most 1.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against the best control.

    Attributes:
        difference: mean paired difference; above 0 where the arm is better.
        low: lower end of its 95 % interval, for this arm alone (not corrected for the number of arms).
        high: upper end.
        p_adjusted: p-value after Holm's correction over arms; None with fewer than three repeats.
        effect_size: mean difference divided by the standard deviation of the differences.
        verdict: ``"helps"`` or ``"harms"`` where `p_adjusted` is below 0.05.
        deciding_repeats: with how many repeats a difference like this one would be shown with probability 0.8; None
            where more than 1,000 would be needed, or no number suffices.
    """

    difference: float
    low: float | None
    high: float | None
    p_adjusted: float | None
    effect_size: float | None
    verdict: Verdict
    deciding_repeats: int | None


def compare(
    differences: Mapping[str, Sequence[float] | npt.NDArray[np.float64]],
    *,
    test_share: float = 0.0,
    controls: int = 1,
) -> dict[str, Comparison]:
    """Compares arms with the control that was best of several on validation data.

    The best of several controls is partly lucky: where its validation and test scores go together, its test score is
    too good on average, and an arm without effect seems to harm. So p-values of differences below 0 are multiplied by
    the number of controls, which covers any way to choose one of them.

    Args:
        differences: arm → score of the arm minus that of the control, one per repeat.
        test_share: see `interval`.
        controls: from how many the control was chosen.

    Example:
        >>> found = compare({"mix": [0.05, 0.06, 0.07, 0.05, 0.06], "copies": [0.01, -0.01, 0.0, 0.01, -0.01]})
        >>> found["mix"].verdict, found["copies"].verdict
        ('helps', 'no difference shown')
    """
    found = {name: interval(values, test_share) for name, values in differences.items()}
    tested = {
        name: min(1.0, each.p * (controls if each.mean < 0 else 1))
        for name, each in found.items()
        if each.p is not None
    }
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    compared = {}
    for name, each in found.items():
        p = adjusted.get(name)
        verdict: Verdict = "no difference shown"
        if p is not None and p < LEVEL:
            verdict = "helps" if each.mean > 0 else "harms"
        tests = len(found) * (controls if each.mean < 0 else 1)
        needed = _deciding_repeats(each.effect_size, test_share, LEVEL / max(1, tests))
        compared[name] = Comparison(each.mean, each.low, each.high, p, each.effect_size, verdict, needed)
    return compared


def _deciding_repeats(effect_size: float | None, test_share: float, level: float) -> int | None:
    """Fewest repeats at which a paired t-test finds an effect of this size with probability 0.8 (noncentral t)."""
    from scipy import stats

    if not effect_size:
        return None

    def power(count: int) -> float:
        centre = abs(effect_size) / math.sqrt(1 / count + test_share)
        return float(stats.nct.sf(stats.t.ppf(1 - level / 2, count - 1), count - 1, centre))

    # Power grows with the number of repeats.
    found = bisect.bisect_left(range(LEAST_REPEATS, _MOST + 1), _POWER, key=power) + LEAST_REPEATS
    return found if found <= _MOST else None
