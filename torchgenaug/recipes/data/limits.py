"""Which rows are left of labelled data when their number is limited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError
from torchgenaug.seeding import permutation


def limited_rows(
    labels: npt.NDArray[np.int64] | None, total: int, count: int | Mapping[int, int], seed: int
) -> list[int]:
    """The rows that are left, in their order; see `TrainingData.limit`."""
    if isinstance(count, Mapping):
        return _limited_classes(labels, count, seed)
    groups = np.zeros(total, np.int64) if labels is None else labels
    smallest = min(Counter(groups[groups >= 0].tolist()).values())
    if not 1 <= count <= smallest:
        raise ConfigurationError(
            f"`count` must be between 1 and {smallest}, how many samples the "
            f"{'data have' if labels is None else 'smallest class has'}, got {count}. Ask for fewer."
        )
    kept: list[int] = np.flatnonzero(groups < 0).tolist()  # whose class is not known
    for group in np.unique(groups[groups >= 0]):
        members = np.flatnonzero(groups == group)
        kept += members[permutation(seed, len(members))[:count]].tolist()
    return sorted(kept)


def _limited_classes(labels: npt.NDArray[np.int64] | None, counts: Mapping[int, int], seed: int) -> list[int]:
    have = Counter([] if labels is None else labels.tolist())
    unknown = have.pop(-1, 0)
    for each, count in counts.items():
        if not 1 <= count <= have[each]:
            classes = ", ".join(map(str, sorted(have))) or "none: the data have no labels"
            raise ConfigurationError(
                f"`count` of class {each} must be between 1 and {have[each]}, how many samples it has, got {count}. "
                f"Ask for fewer, or name another class. Classes: {classes}."
            )
    dropped: set[int] = set()
    for each, count in counts.items():
        members = np.flatnonzero(labels == each)
        dropped.update(members[permutation(seed, len(members))[count:]].tolist())
    return [row for row in range(sum(have.values()) + unknown) if row not in dropped]
