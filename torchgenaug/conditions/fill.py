"""`FillClasses`: as many labels of each class as are missing to a target count."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.types import Batch, FieldSpec


class FillClasses:
    """Class labels that bring every rare class of a real data set up to a target count.

    Ids 0 … `count` - 1 hold exactly `needed` labels of each class, in random order, and so does every other run of
    `count` ids: the labels repeat. Render `count` samples and add them all::

        fill = FillClasses(labels)
        source = render_shards(SyntheticSequence(synthesizer, fill), "fill", fill.count)
        mixed = SyntheticMixDataset(real, source, mode="extend", count=fill.count)

    Deterministic, the same on every machine, picklable, safe in workers and threads.

    Args:
        labels: the real labels, integers from 0.
        target: how many samples each class is to have, real and synthetic together; default: as many as the largest
            class has. Classes that have more keep what they have.
        num_classes: labels lie in [0, num_classes); default: up to the largest one in `labels`.
        seed: another seed gives another order.
        name: name of the field.

    Attributes:
        needed: (num_classes,) int64, synthetic samples per class.
        count: synthetic samples in all.
        fields: the field, int64 scalar.
        fingerprint: sha256 over needed counts, seed and name.

    Raises:
        ConfigurationError: labels or arguments outside their domain, or nothing to fill.

    Example:
        >>> fill = FillClasses([0, 0, 0, 1, 2, 2])
        >>> fill.needed.tolist(), fill.count
        ([0, 2, 1], 3)
        >>> sorted(fill(range(3))["label"].tolist())
        [1, 1, 2]
    """

    def __init__(
        self,
        labels: Sequence[int] | npt.NDArray[np.integer] | torch.Tensor,
        target: int | None = None,
        *,
        num_classes: int | None = None,
        seed: int = 0,
        name: str = "label",
    ) -> None:
        real = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
        if real.ndim != 1 or len(real) == 0 or real.dtype.kind not in "iu" or real.min() < 0:
            raise ConfigurationError(
                f"`labels` must be a non-empty list of integers from 0, got shape {real.shape} of {real.dtype}. "
                "Pass the labels of the real data set, for example [sample['label'] for sample in dataset]."
            )
        classes = int(real.max()) + 1
        whole = isinstance(num_classes, int | np.integer) and not isinstance(num_classes, bool)
        if num_classes is not None and (not whole or num_classes < classes):
            raise ConfigurationError(
                f"`num_classes` must be an integer of at least {classes}, for labels up to {classes - 1}, got "
                f"{num_classes!r}."
            )
        if target is not None and (isinstance(target, bool) or not isinstance(target, int | np.integer) or target < 1):
            raise ConfigurationError(f"`target` must be a positive count per class, got {target!r}.")
        seed = seeding.checked_seed(seed)
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"`name` must be a field name, got {name!r}. The default is 'label'.")
        counts = np.bincount(real, minlength=classes if num_classes is None else int(num_classes)).astype(np.int64)
        self.target = int(counts.max() if target is None else target)
        self.needed: npt.NDArray[np.int64] = np.maximum(self.target - counts, 0)
        self.count = int(self.needed.sum())
        if self.count == 0:
            raise ConfigurationError(
                f"`target` must be above the count of a class, got {self.target} for the counts {counts.tolist()}. "
                "There is nothing to fill. Use ClassLabels for samples of every class."
            )
        self.seed, self.name = seed, name
        limits = (0, len(counts) - 1) if len(counts) > 1 else None
        self.fields: Mapping[str, FieldSpec] = {name: FieldSpec((), torch.int64, kind="scalar", value_range=limits)}
        identity = ("fill classes", self.needed.tolist(), seed, name)
        self.fingerprint = hashlib.sha256(repr(identity).encode()).hexdigest()
        order = seeding.permutation(int(seeding.derive(seed, seeding.CONDITION)), self.count)
        self._labels = torch.from_numpy(np.repeat(np.arange(len(counts)), self.needed)[order])

    def __call__(self, ids: Sequence[int]) -> Batch:
        """The labels of samples `ids`: {name: int64 (len(ids),)}."""
        return {self.name: self._labels[torch.as_tensor(np.asarray(ids, dtype=np.int64) % self.count)]}

    def __repr__(self) -> str:
        return f"FillClasses(needed={self.needed.tolist()}, count={self.count}, seed={self.seed})"
