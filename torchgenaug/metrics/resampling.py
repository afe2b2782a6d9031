"""Bootstrap of a mean, by image or by patient."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchgenaug import seeding

_AT_ONCE = 2**22  # drawn numbers in memory


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Tensor, groups: Tensor | None = None, *, seed: int = 0, resamples: int = 1000) -> Interval:
    """Mean of `values` and the 2.5 % and 97.5 % quantiles of the means of resamples (percentile bootstrap).

    Efron (1979), "Bootstrap methods: another look at the jackknife", Ann. Stat. 7, 1. With `groups`, whole groups
    are drawn (cluster bootstrap): images of one patient resemble each other, and drawn one by one their interval is
    too narrow.

    Args:
        values: (count,) float; NaN counts as missing.
        groups: (count,) int64 from 0 on.
        seed: decides the resamples.
        resamples: how many.

    Returns:
        Mean, low and high; all NaN if no value is there.
    """
    groups = torch.arange(len(values)) if groups is None else groups
    present = ~values.isnan()
    values, groups = values[present].double(), torch.tensor(numbered(groups[present].tolist()), dtype=torch.int64)
    if not len(values):
        return Interval(torch.nan, torch.nan, torch.nan)
    count = int(groups.max()) + 1
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, groups, values)
    sizes = torch.bincount(groups, minlength=count).double()
    means = []
    at_once = max(1, _AT_ONCE // count)
    for start in range(0, resamples, at_once):
        keys = np.arange(start, min(start + at_once, resamples))[:, None]
        drawn = seeding.derive(seed, keys, np.arange(count)) % np.uint64(count)
        rows = torch.from_numpy(drawn.astype(np.int64))
        means.append(sums[rows].sum(1) / sizes[rows].sum(1))
    ordered = torch.cat(means).sort().values
    low, high = (float(ordered[round(share * (resamples - 1))]) for share in (0.025, 0.975))
    return Interval(float(values.mean()), low, high)


def strangers(groups: Tensor, *, seed: int = 0) -> Tensor | None:
    """For each row another one of another group: (count,) int64 permutation; None if a group holds more than half.

    Args:
        groups: (count,) int64 from 0 on.
        seed: decides which.
    """
    largest = int(torch.bincount(groups).max())
    if 2 * largest > len(groups):
        return None
    place = torch.from_numpy(seeding.permutation(seed, int(groups.max()) + 1).copy())
    order = place[groups].argsort(stable=True)
    partner = torch.empty_like(order)
    partner[order] = order.roll(-largest)  # no group is longer, so the step leaves it
    return partner


def shuffled_rows(count: int, *keys: int, groups: Tensor | None = None) -> Tensor:
    """A permutation of ``range(count)``, a function of `keys`; the rows of a group stay next to each other.

    Its first m and last m rows share no group if ``2 m <= count - largest_group(groups) + 1``.

    Args:
        count: rows.
        keys: integers that decide the order.
        groups: (count,) int64 from 0 on; None: each row is its own.
    """
    order = torch.from_numpy(seeding.permutation(int(seeding.derive(*keys, 0)), count).copy())
    if groups is None:
        return order
    place = torch.from_numpy(seeding.permutation(int(seeding.derive(*keys, 1)), int(groups.max()) + 1).copy())
    return order[place[groups[order]].argsort(stable=True)]


def largest_group(groups: Tensor | None) -> int:
    """Rows of the largest group: 1 without groups."""
    return 1 if groups is None else int(torch.bincount(groups).max())


def numbered(groups: Sequence[Hashable]) -> list[int]:
    """Numbers from 0 for the different values of `groups`, in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]
