"""What `torchio.Queue` counts before it reads: a Subject for each index of a mix, none of them loaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError
from torchgenaug.samples.torchio_values import is_subject


def unread_subjects(
    real: Any,
    names: tuple[str, ...] | None,
    is_synthetic: npt.NDArray[np.bool_],
    positions: npt.NDArray[np.int64],
    synthetic: Callable[[npt.NDArray[np.int64]], list[Any]],
) -> list[Any]:
    """See `SyntheticMixDataset.dry_iter`.

    Args:
        real: the real data set.
        names: the fields that are handed out; None: all.
        is_synthetic: (n,) whether each index is synthetic.
        positions: (n,) where each is read.
        synthetic: indices → the synthetic samples there, needed where Subjects say how many patches they give.

    Raises:
        ConfigurationError: the samples are no Subjects.
    """
    listed = getattr(real, "dry_iter", lambda: real)()
    first = listed[0]
    if not is_subject(first):
        raise ConfigurationError(
            f"`dry_iter` is for samples that are torchio Subjects, got samples of type {type(first).__name__}. "
            "torchio.Queue needs a real set of Subjects, such as tio.SubjectsDataset."
        )
    if "num_samples" in first:
        stand_ins: Iterator[Any] = iter(synthetic(np.flatnonzero(is_synthetic)))
    else:
        stand_ins = itertools.repeat(type(first)(dict(first)))
    subjects = [
        next(stand_ins) if drawn else listed[position]
        for drawn, position in zip(is_synthetic.tolist(), positions.tolist(), strict=True)
    ]
    if names is None or set(names) == set(first):
        return subjects
    return [type(one)({name: one[name] for name in names}) for one in subjects]
