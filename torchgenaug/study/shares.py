"""`share_of`: a split with a part of its real training data, for learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from torchgenaug.errors import ConfigurationError
from torchgenaug.seeding import permutation
from torchgenaug.study.splits import Split
from torchgenaug.trust.leaks.real_images import names_of


class RealPart(Dataset[Any]):
    """Some samples of a real data set; ids, patients and `training_data` are those of these samples.

    Args:
        data: map-style data set.
        rows: positions in it.
    """

    def __init__(self, data: Any, rows: Sequence[int]) -> None:
        self.data, self.rows = data, [int(row) for row in rows]
        for kind in ("ids", "patients"):
            names = names_of(data, kind)
            if names:
                setattr(self, kind, tuple(names[row] for row in self.rows))
        if hasattr(data, "training_data"):
            self.training_data = data.training_data.select(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.data[self.rows[index]]


def share_of(split: Split, share: float) -> Split:
    """The split with this fraction of its training samples: whole patients where they are known, all classes kept.

    Smaller parts lie within larger ones. Classes are those of a ``label`` in the samples, or of their second position;
    each keeps at least one sample.

    Args:
        split: with all of its training data.
        share: in (0, 1]; 1 gives `split` itself.
    """
    if share == 1:
        return split
    groups: list[Any] = [*names_of(split.train, "patients")] or [*range(len(split.train))]
    strata: dict[Any, list[Any]] = {}
    for row, group in enumerate(groups):
        members = strata.setdefault(_class_of(split.train[row]), [])
        if group not in members:
            members.append(group)
    chosen: set[Any] = set()
    for place, members in enumerate(strata.values()):
        order = permutation(place, len(members))
        chosen |= {members[k] for k in order[: max(1, round(share * len(members)))]}
    rows = [row for row, group in enumerate(groups) if group in chosen]
    if len(rows) == len(split.train):
        raise ConfigurationError(
            f"`shares` must make the training data smaller, got {share:g} of {len(split.train)} samples in split "
            f"{split.name!r}, which is all of them: each class keeps at least one. Leave this share out."
        )
    return replace(split, name=f"{split.name}-{share:g}", train=RealPart(split.train, rows))


def _class_of(sample: Any) -> int | None:
    label = sample.get("label") if hasattr(sample, "get") else sample[1] if len(sample) > 1 else None
    values = np.asarray(-1 if label is None else label)
    return int(values) if values.ndim == 0 and np.issubdtype(values.dtype, np.integer) else None
