"""Batches to train on, each a pure function of (seed, step): a run that stops at any step goes on as if it had not.

Every epoch is a shuffle of its own, and epochs follow one another without a gap: a batch may hold the end of one and
the beginning of the next, so that every sample is used equally often whatever the batch size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data import TrainingData
from torchgenaug.samples import SampleLayout
from torchgenaug.seeding import TRANSFORM, derive, permutation
from torchgenaug.transforms import SeededTransform
from torchgenaug.types import Batch, FieldSpec


class TrainingBatches(Dataset[Batch]):
    """Batch k of the endless training sequence: images and sources in [-1, 1], masks and labels int64.

    Picklable, and safe in workers. See `training_batches` for the arguments.
    """

    def __init__(
        self,
        data: TrainingData,
        batch_size: int,
        *,
        seed: int = 0,
        augment: Callable[[Any], Any] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ConfigurationError(f"`batch_size` must be at least 1, got {batch_size!r}.")
        if not 0 <= rank < world_size:
            raise ConfigurationError(f"`rank` must be in [0, world_size), got {rank!r} of {world_size!r}.")
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.ranges = {
            name: spec.value_range
            for name, spec in data.fields.items()
            if spec.kind == "intensity" and spec.value_range is not None
        }
        self.transform = None
        if augment is not None:
            kinds = {name: spec.kind for name, spec in data.fields.items()}
            self.transform = SeededTransform(augment, SampleLayout.of(dict(data.samples[0])), kinds)
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def __getitem__(self, step: int) -> Batch:
        """The batch of this rank at `step`, from 0 without end."""
        size = len(self.data)
        first = (step * self.world_size + self.rank) * self.batch_size
        places = [divmod(place, size) for place in range(first, first + self.batch_size)]
        drawn = [(epoch, int(self._shuffled(epoch)[place])) for epoch, place in places]
        samples: list[Mapping[str, Any]] = [self.data.samples[index] for _, index in drawn]
        if self.transform is not None:
            epochs, indices = (np.array(column) for column in zip(*drawn, strict=True))
            samples = self.transform([dict(each) for each in samples], derive(self.seed, TRANSFORM, epochs, indices))
        batch: Batch = {}
        for name in self.data.fields:
            column = torch.stack([each[name] for each in samples])
            batch[name] = to_symmetric(column, self.data.fields[name]) if name in self.ranges else column
        return batch

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, permutation(int(derive(self.seed, epoch)), len(self.data))
        return self._order


def training_batches(
    data: TrainingData,
    batch_size: int,
    *,
    seed: int = 0,
    first_step: int = 0,
    augment: Callable[[Any], Any] | None = None,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Endless batches of fields (batch, *shape); the one at step k depends on (data, batch_size, seed, k) alone.

    Args:
        data: what to train on.
        batch_size: samples per batch and rank.
        seed: of the order and of the augmentation.
        first_step: where to begin: the batches are those that would follow after `first_step` others.
        augment: a TorchIO transform of the samples as they are in `data`, or a function dict → dict, seeded by (seed,
            epoch, index); see `mild_augmentation`.
        rank: which of `world_size` processes this is: together their batches at a step are one batch, without overlap.
        world_size: how many processes train together.
        workers: processes that make batches ahead of time. Threads would not do: transforms draw from the global
            random generators that the training step draws from, too.

    Returns:
        An iterator without end over dicts: ``image`` and ``source`` float32, their value range mapped linearly to
        [-1, 1] (and cut there, since an augmentation may overshoot); ``mask`` and ``label`` int64.

    Raises:
        ConfigurationError: a batch size, rank, first step or number of workers outside its domain.
    """
    if first_step < 0 or workers < 0:
        raise ConfigurationError(
            f"`first_step` and `workers` must not be negative, got first_step={first_step!r}, workers={workers!r}."
        )
    batches = TrainingBatches(data, batch_size, seed=seed, augment=augment, rank=rank, world_size=world_size)
    steps = itertools.count(first_step)
    if not workers:
        return map(batches.__getitem__, steps)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # else the loader takes a number from the global generator, which breaks resuming
    )
    return iter(loader)


def to_symmetric(values: Tensor, spec: FieldSpec) -> Tensor:
    """Values of a field mapped linearly from its value range to [-1, 1], and cut there; float32."""
    low, high = _limits(spec)
    return ((values.float() - low) * (2 / (high - low)) - 1).clamp_(-1, 1)


def from_symmetric(values: Tensor, spec: FieldSpec) -> Tensor:
    """The inverse of `to_symmetric`: values in [-1, 1], cut there, in the field's own value range."""
    low, high = _limits(spec)
    return (values.float().clamp(-1, 1) + 1) * ((high - low) / 2) + low


def mild_augmentation(data: TrainingData) -> Callable[[Any], Any]:
    """A TorchIO transform for small data: turns by up to 7°, scales by up to 6 %, shifts by up to 4 % of the side.

    No flips: a mirrored body is another body (heart on the right), and a mirrored digit none. What comes in from outside
    of the image is its reflection, not a constant: a generator would learn the dark wedges.
    """
    import torchio as tio

    spatial = data.fields["image"].shape[1:]
    margins = [min(size - 1, -(-size // 8)) for size in spatial]
    shifts = [0.04 * size for size in spatial]
    limits = [number for margin in margins for number in (margin, margin)]
    scales, degrees = [0.94, 1.06] * len(spatial), [-7.0, 7.0] * 3
    translation = [number for shift in shifts for number in (-shift, shift)]
    if len(spatial) == 2:  # torchio's third axis has one slice: it must neither be scaled nor left
        limits, scales, translation = [*limits, 0, 0], [*scales, 1.0, 1.0], [*translation, 0.0, 0.0]
        degrees = [0.0, 0.0, 0.0, 0.0, -7.0, 7.0]
    transform: Callable[[Any], Any] = tio.Compose(
        [
            tio.Pad(tuple(limits), padding_mode="reflect"),
            tio.RandomAffine(scales=tuple(scales), degrees=tuple(degrees), translation=tuple(translation)),
            tio.Crop(tuple(limits)),
        ]
    )
    return transform


def _limits(spec: FieldSpec) -> tuple[float, float]:
    if spec.value_range is None:
        raise ConfigurationError(f"A field must have a value range to be mapped to [-1, 1], got {spec}.")
    return spec.value_range


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
    try:
        from SimpleITK import ProcessObject
    except ImportError:
        return
    ProcessObject.SetGlobalDefaultNumberOfThreads(1)
