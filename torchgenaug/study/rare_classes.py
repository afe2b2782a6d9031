"""Arms for classes of which there are few images: oversampling, a balanced loss, and synthetic images in their place.

In all of them but the balanced loss every class has as many positions as the largest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.study.arms import Arm, Synthetic, describe, per_split
from torchgenaug.study.splits import Split
from torchgenaug.study.transforms import BatchTransform, BatchTransformed


def oversampled(transform: BatchTransform | None = None, name: str = "oversampled") -> Arm:
    """A control: images of smaller classes are repeated, until every class is as frequent as the largest.

    Args:
        transform: of all samples.
        name: of the arm.
    """

    def build(split: Split, seed: int) -> Any:
        return _under(Subset(split.train, balanced_rows(_labels(split.train))), transform, seed)

    settings = {"transform": None if transform is None else repr(transform)}
    return Arm(name, "control", build, lambda split: split.train, settings)


def balanced_loss(transform: BatchTransform | None = None, name: str = "balanced loss") -> Arm:
    """A control: the loss of a sample is weighted by how rare its class is.

    The data set has an attribute ``class_weights`` (classes,), with mean 1 over the samples, which `Classification`
    reads; a `train` function of your own must do so, too.

    Args:
        transform: of all samples.
        name: of the arm.
    """

    def build(split: Split, seed: int) -> Any:
        counts = np.bincount(_labels(split.train))
        data = _under(split.train, transform, seed)
        data.class_weights = torch.from_numpy(counts.sum() / (len(counts) * counts.clip(1))).float()
        return data

    settings = {"transform": None if transform is None else repr(transform)}
    return Arm(name, "control", build, lambda split: split.train, settings)


def topped_up(
    synthetic: Synthetic,
    *,
    fields: Sequence[str] = ("image", "label"),
    transform: BatchTransform | None = None,
    name: str = "topped up",
) -> Arm:
    """Oversampling of which half of the repeated images are synthetic ones of the same class.

    The largest classes get none.

    Args:
        synthetic: a source or data set of synthetic samples, or a function `Split` → such a source.
        fields: as in `SyntheticMixDataset`; the second is the class.
        transform: of real and synthetic samples alike.
        name: of the arm.
    """
    source = per_split(synthetic)

    def build(split: Split, seed: int) -> Any:
        rows = balanced_rows(_labels(split.train))
        seen: dict[int, int] = {}
        kept: list[int] = []
        wanted: list[int] = []
        for row in rows:
            seen[row] = seen.get(row, 0) + 1
            # Real and synthetic in turns, beginning with real: every second repetition.
            (kept if seen[row] % 2 else wanted).append(row)
        real = Subset(split.train, kept)
        data: Any = SyntheticMixDataset(real, real, 0.0, seed=seed)
        if wanted:
            like = Subset(split.train, wanted)
            mix = SyntheticMixDataset(like, source(split), 1.0, seed=seed, fields=fields, match=fields[1])
            data = _Joined(data, mix)
        return data if transform is None else BatchTransformed(data, transform)

    settings = {"transform": None if transform is None else repr(transform), "synthetic": describe(synthetic)}
    return Arm(name, "synthetic", build, source, settings)


def balanced_rows(labels: Any) -> list[int]:
    """Positions at which every class is as frequent as the largest one, each of its samples about equally often."""
    counts = np.bincount(labels)
    rows: list[int] = []
    for each in np.flatnonzero(counts):
        members = np.flatnonzero(labels == each)
        rows += np.resize(members, counts.max()).tolist()
    return rows


class _Joined(Dataset[Any]):
    """The samples of two mixes, one after the other."""

    def __init__(self, first: SyntheticMixDataset, second: SyntheticMixDataset) -> None:
        self.first, self.second, self.plan = first, second, first.plan

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def epoch(self) -> int:
        """That of both."""
        return self.first.epoch

    def set_epoch(self, epoch: int) -> None:
        """See `SyntheticMixDataset.set_epoch`."""
        self.first.set_epoch(epoch)
        self.second.set_epoch(epoch)

    def __getitem__(self, index: int) -> Any:
        here = index < len(self.first)
        return self.first[index] if here else self.second[index - len(self.first)]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Several samples."""
        return [self[index] for index in indices]


def _under(data: Any, transform: BatchTransform | None, seed: int) -> Any:
    mix: Any = SyntheticMixDataset(data, data, 0.0, seed=seed)
    return mix if transform is None else BatchTransformed(mix, transform)


def _labels(data: Any) -> Any:
    known = getattr(data, "training_data", None)
    if known is not None and known.labels() is not None:
        return known.labels()
    samples = (data[k] for k in range(len(data)))
    try:
        return np.array([int(each["label"] if hasattr(each, "keys") else each[1]) for each in samples])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ConfigurationError(
            "Samples must have a class, as `label` or at position 1, got none. Classes cannot be balanced. Leave arms "
            "of rare classes out."
        ) from error
