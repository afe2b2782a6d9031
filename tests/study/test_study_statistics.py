"""Intervals against closed forms; with no effect, few studies claim one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from torchgenaug.study import statistics
from torchgenaug.study.statistics import compare, holm, interval

NULL_STUDIES = 400  # of 200, with a true rate of 2 to 3.5 %, chance alone would often exceed 5 %; the draws are fixed
scipy_stats = pytest.importorskip("scipy.stats")


def test_interval_is_that_of_the_paired_t_test():
    values = np.array([0.03, -0.01, 0.05, 0.02, 0.04])
    found, expected = interval(values), scipy_stats.ttest_1samp(values, 0)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, expected.pvalue))
    assert found.effect_size == pytest.approx(values.mean() / values.std(ddof=1))


def test_resplits_widen_the_interval_by_their_overlap():
    values = [0.03, -0.01, 0.05, 0.02, 0.04]
    plain, corrected = interval(values), interval(values, test_share=0.25)
    ratio = (corrected.high - corrected.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(math.sqrt((1 / 5 + 0.25) / (1 / 5)))
    t = np.mean(values) / (np.std(values, ddof=1) * math.sqrt(1 / 5 + 0.25))
    assert corrected.p == pytest.approx(2 * scipy_stats.t.sf(t, 4))


def test_holm_steps_down():
    assert holm([0.02, 0.001, 0.04, 0.03]) == pytest.approx([0.06, 0.004, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_two_repeats_have_no_interval():
    found = compare({"mix": [0.5, 0.5]})["mix"]
    assert (found.low, found.p_adjusted, found.verdict) == (None, None, "no difference shown")


def test_equal_differences_are_judged_by_their_signs():
    assert compare({"mix": [0.1] * 5})["mix"].verdict == "no difference shown"
    assert compare({"mix": [0.1] * 6})["mix"].verdict == "helps"
    assert compare({"mix": [-0.1] * 6})["mix"].verdict == "harms"
    assert compare({"mix": [0.0] * 6})["mix"].p_adjusted == 1


def test_the_number_that_decides_decides():
    """Simulated: at that number about 80 % of studies show the effect, and at half of it far fewer."""
    rng = np.random.default_rng(0)
    pattern = np.array([1.0, -1, 2, -2, 0])
    values = pattern / pattern.std(ddof=1) + 0.8
    needed = compare({"mix": values})["mix"].deciding_repeats
    assert needed is not None

    def shown(count):
        return np.mean([interval(rng.normal(0.8, 1, count)).p < 0.05 for _ in range(300)])

    assert 0.7 < shown(needed) < 0.92
    assert shown(needed // 2) < 0.7
    assert compare({"mix": values}, test_share=1.0)["mix"].deciding_repeats is None


@pytest.mark.parametrize("arms", [1, 4])
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_no_effect_is_seldom_claimed(monkeypatch, arms, shared):
    """Simulated studies of 5 seeds, 3 controls of which the best on validation is taken; at most 5 % claim, half harm.

    `shared`: how much of the variance of validation and test scores is common to them, which makes a chosen control
    look better than it is.
    """
    # Most of the time, and no part of the verdict.
    monkeypatch.setattr(statistics, "_deciding_repeats", lambda *_: None)
    claims = harms = 0
    for study in range(NULL_STUDIES):
        rng = np.random.default_rng([study, arms, int(10 * shared)])
        common = rng.normal(size=(arms + 3, 5))
        validation, test = (
            math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(size=(arms + 3, 5)) for _ in range(2)
        )
        best = int(np.argmax(validation[:3].mean(1)))
        found = compare({str(k): test[3 + k] - test[best] for k in range(arms)}, controls=3)
        claims += any(each.verdict != "no difference shown" for each in found.values())
        harms += any(each.verdict == "harms" for each in found.values())
    assert claims <= 0.05 * NULL_STUDIES
    assert harms <= 0.025 * NULL_STUDIES, "the best of several controls is partly lucky"


def test_a_large_effect_is_claimed_in_its_direction():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(2, 5))
    found = compare({"good": 6 + noise[0], "bad": -6 + noise[1]}, controls=2)
    assert (found["good"].verdict, found["bad"].verdict) == ("helps", "harms")
