"""Measures of a synthetic set against a real one, each with an interval, a floor and a ceiling at equal numbers.

Most such measures change with the number of images, and the bootstrap's repeated rows mislead all that look at
neighbours or covariances. So everything is computed between sets of one size m, drawn *without* repetition: real half
against synthetic half (the value), real half against the other real half (the floor), real half against degraded images
of the other half (the ceiling). Over repeated random halves the spread of the value is its standard error: the variance
of a mean over m of n images, drawn without repetition, is that of the mean over all n times (n − m) / m.

References:
    Shao, Wu (1989). A general theory for jackknife variance estimation. Ann. Stat. 17, 1176.
    Politis, Romano (1994). Large sample confidence regions based on subsamples. Ann. Stat. 22, 2031.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, SmallSampleWarning, TooFewImagesError
from torchgenaug.metrics.measurement import Measurement
from torchgenaug.metrics.resampling import largest_group, shuffled_rows
from torchgenaug.metrics.sets.feature_sets import FeatureSets
from torchgenaug.metrics.sets.measure import SetMeasure


def compare_sets(
    sets: FeatureSets, measures: Sequence[SetMeasure], *, splits: int = 10, seed: int = 0
) -> dict[str, Measurement]:
    """Measures synthetic against real features.

    Deterministic: the same sets and seed give the same numbers.

    Args:
        sets: features of both sets.
        measures: for example ``[FID, KID, PRECISION, RECALL]``.
        splits: random halves; more make the interval's ends steadier.
        seed: decides the halves.

    Returns:
        Name with features, for example ``"KID[radiomics-like]"`` → result. `value` and `floor` are means over the
        splits; the interval is for the value at `n` images.

    Raises:
        TooFewImagesError: a measure needs more images.
        ConfigurationError: fewer than two splits, or a measure twice.

    Warns:
        SmallSampleWarning: a measure is unreliable at this number of images; also in the result's `cautions`.
    """
    if splits < 2:
        raise ConfigurationError(f"`splits` must be at least 2, got {splits}. One value has no spread.")
    names = [measure.name for measure in measures]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"`measures` must differ in name, got {names}.")
    results = {}
    for group in _groups(measures):
        for measure, result in zip(group, _compare_group(sets, group, splits, seed), strict=True):
            results[measure.name] = result
    for result in results.values():
        for caution in result.cautions:
            warnings.warn(f"{result.name}: {caution}.", SmallSampleWarning, stacklevel=2)
    return {results[name].name: results[name] for name in names}


def _groups(measures: Sequence[SetMeasure]) -> Iterator[list[SetMeasure]]:
    """Measures that share one computation."""
    groups: dict[tuple[Callable[..., Any], int | None], list[SetMeasure]] = {}
    for measure in measures:
        groups.setdefault((measure.function, measure.largest_n), []).append(measure)
    yield from groups.values()


def _compare_group(sets: FeatureSets, group: list[SetMeasure], splits: int, seed: int) -> list[Measurement]:
    available = min(len(sets.real) - largest_group(sets.real_groups) + 1, len(sets.synthetic))
    size = min(available // 2, group[0].largest_n or available)
    for measure in group:
        if size < measure.minimum:
            raise TooFewImagesError(
                f"{measure.name} compares halves of at least {measure.minimum} images, got sets of {len(sets.real)} "
                f"real and {len(sets.synthetic)} synthetic ones. No interval could be given. Use at least "
                f"{2 * measure.minimum} of each{_beyond_a_patient(sets.real_groups)}."
            )
    function = group[0].function
    values, floors = [], []
    for split in range(splits):
        order = shuffled_rows(len(sets.real), seed, split, 0, groups=sets.real_groups)
        half, other_half = sets.real[order[:size]], sets.real[order[-size:]]
        synthetic = sets.synthetic[shuffled_rows(len(sets.synthetic), seed, split, 1)[:size]]
        values.append(function(half, synthetic))
        floors.append(function(half, other_half))
    ceiling = _ceiling(sets, function, size, seed)
    return [
        _result(
            sets, measure, list(map(measure.read, values)), list(map(measure.read, floors)), ceiling, size, available
        )
        for measure in group
    ]


def _beyond_a_patient(groups: Tensor | None) -> str:
    return "" if groups is None else f", of the real ones beyond the {largest_group(groups)} of the largest group"


def _ceiling(sets: FeatureSets, function: Callable[[Tensor, Tensor], Any], size: int, seed: int) -> Any:
    if sets.degraded is None or sets.degraded_rows is None or len(sets.degraded) < size:
        return None
    untouched = torch.ones(len(sets.real), dtype=torch.bool)
    untouched[sets.degraded_rows] = False
    if sets.real_groups is not None:  # the last patient that was degraded may have further images
        untouched &= ~torch.isin(sets.real_groups, sets.real_groups[sets.degraded_rows])
    rows = untouched.nonzero().flatten()
    rows = rows[shuffled_rows(len(rows), seed)[:size]]  # the order of a data set is often that of its classes
    return function(sets.real[rows], sets.degraded[:size]) if len(rows) == size else None


def _result(
    sets: FeatureSets,
    measure: SetMeasure,
    values: list[float],
    floors: list[float],
    ceiling: Any,
    size: int,
    available: int,
) -> Measurement:
    value = statistics.fmean(values)
    error = statistics.stdev(values) * math.sqrt(size / (available - size))
    reach = _student_95(len(values) - 1) * error
    lowest, highest = measure.bounds
    caution = measure.caution(size, sets.real.shape[1]) if measure.caution else None
    return Measurement(
        name=f"{measure.name}[{sets.name}]",
        value=value,
        low=max(lowest, value - reach),
        high=min(highest, value + reach),
        floor=statistics.fmean(floors),
        ceiling=None if ceiling is None else measure.read(ceiling),
        n=size,
        better=measure.better,
        bounds=measure.bounds,
        source=measure.source,
        features=sets.name,
        sha256=sets.sha256,
        cautions=(caution,) if caution else (),
    )


def _student_95(freedom: int) -> float:
    """97.5 % quantile of Student's t, by its expansion: Abramowitz, Stegun (1964), 26.7.5; within 1 % from 3 on."""
    z = statistics.NormalDist().inv_cdf(0.975)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
