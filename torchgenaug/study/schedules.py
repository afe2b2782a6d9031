"""Arms whose synthetic fraction changes during training: a schedule, and pretraining on synthetic data alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset

from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.study.arms import Arm, Synthetic, describe, per_split
from torchgenaug.study.splits import Split
from torchgenaug.study.transforms import BatchTransform, BatchTransformed


class ProgressRatio:
    """A ratio as a function of the epoch, from one of the progress of training; picklable if that is.

    Args:
        ratio: progress in [0, 1) → synthetic fraction.
    """

    def __init__(self, ratio: Callable[[float], float]) -> None:
        self.ratio, self.num_epochs = ratio, 1.0

    def __call__(self, epoch: int) -> float:
        """The fraction in an epoch; the last one stays after the end."""
        return self.ratio(min(epoch / self.num_epochs, 1 - 1e-9))


class ScheduledMix(Dataset[Any]):
    """A mix whose ratio follows the progress of training.

    Args:
        data: a `SyntheticMixDataset`, or one under a batch transform.
        schedule: its ratio.
    """

    def __init__(self, data: SyntheticMixDataset | BatchTransformed, schedule: ProgressRatio) -> None:
        self.data, self.schedule = data, schedule

    def __len__(self) -> int:
        return len(self.data)

    def set_num_epochs(self, num_epochs: float) -> None:
        """How many epochs the training has; to be called before the first one."""
        self.schedule.num_epochs = num_epochs

    def set_epoch(self, epoch: int) -> None:
        """See `SyntheticMixDataset.set_epoch`."""
        self.data.set_epoch(epoch)

    def __getitem__(self, index: int) -> Any:
        return self.data[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A batch of samples."""
        return self.data.__getitems__(indices)


def scheduled(
    synthetic: Synthetic,
    ratio: Callable[[float], float],
    *,
    fields: Sequence[str] | None = None,
    match: str | None = None,
    transform: BatchTransform | None = None,
    name: str = "ratio schedule",
) -> Arm:
    """A mix whose synthetic fraction is a function of the progress of training.

    The batch size has to be known: `train` is a method of an object with ``batch_size``, or has such an attribute.

    Args:
        synthetic: see `torchgenaug.study.mixed`, as `fields`, `match` and `transform`.
        ratio: progress in [0, 1) → fraction in [0, 1]; for example ``Ramp(0.75, 0.0)``.
        fields: as in `SyntheticMixDataset`.
        match: as in `SyntheticMixDataset`.
        transform: of real and synthetic samples alike.
        name: of the arm.
    """
    source = per_split(synthetic)

    def build(split: Split, seed: int) -> ScheduledMix:
        schedule = ProgressRatio(ratio)
        mix = SyntheticMixDataset(split.train, source(split), schedule, seed=seed, fields=fields, match=match)
        return ScheduledMix(mix if transform is None else BatchTransformed(mix, transform), schedule)

    settings = {
        "schedule": repr(ratio) if " at 0x" not in repr(ratio) else describe(ratio),
        "match": match,
        "transform": None if transform is None else repr(transform),
        "synthetic": describe(synthetic),
    }
    return Arm(name, "synthetic", build, source, settings)


def pretrained(synthetic: Synthetic, share: float = 0.5, *, name: str = "pretrained on synthetic", **mix: Any) -> Arm:
    """Synthetic samples alone for a first part of the steps, real ones alone for the rest, with one optimizer.

    Args:
        synthetic: see `scheduled`.
        share: fraction of the steps on synthetic samples, in (0, 1).
        name: of the arm.
        mix: `fields`, `match` and `transform` of `scheduled`.
    """
    if not 0 < share < 1:
        raise ConfigurationError(
            f"`share` must be between 0 and 1, got {share!r}. One of the two parts would be empty. For example 0.5."
        )
    return scheduled(synthetic, Until(share), name=name, **mix)


class Until:
    """A schedule: synthetic samples alone up to a point of the training, none after it."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, progress: float) -> float:
        """1 before the point, 0 from there on."""
        return float(progress < self.share)

    def __repr__(self) -> str:
        return f"Until({self.share:g})"


class Ramp:
    """A schedule: the fraction goes from `first` to `last` in a straight line."""

    def __init__(self, first: float, last: float) -> None:
        self.first, self.last = first, last

    def __call__(self, progress: float) -> float:
        """The fraction at a progress in [0, 1]."""
        return self.first + (self.last - self.first) * progress

    def __repr__(self) -> str:
        return f"Ramp({self.first:g}, {self.last:g})"


def set_length(data: Any, train: Any, steps: int) -> None:
    """Gives a data set that follows the progress of training its number of epochs; leaves any other alone.

    Raises:
        ConfigurationError: such a data set, and a `train` whose batch size is not known.
    """
    if not isinstance(data, ScheduledMix):
        return
    size = getattr(getattr(train, "__self__", train), "batch_size", None)
    if not isinstance(size, int):
        raise ConfigurationError(
            "`train` must state its batch size for arms that change during training, got none. Their epochs could not "
            "be counted. Set it once: train.batch_size = 32"
        )
    data.set_num_epochs(steps / math.ceil(len(data) / size))
