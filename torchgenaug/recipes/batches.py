"""Batches to train on, each a pure function of (seed, step): a run that stops at any step goes on as if it had not.

Every epoch is a shuffle of its own, and epochs follow one another without a gap: a batch may hold the end of one and
the beginning of the next, so that every sample is used equally often whatever the batch size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.augment import drawn_numbers, mild_affine
from torchgenaug.recipes.data.training_data import UNLABELLED, TrainingData
from torchgenaug.seeding import TRANSFORM, derive, permutation
from torchgenaug.types import Batch, FieldSpec

AUGMENTATION = "augmentation"
"""The field of what was drawn to augment each sample, see `drawn_numbers`; absent without augmentation."""


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
        augment: bool = False,
        spare: float = 0.0,
        balance: bool = False,
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
        self.augment, self.spare = augment, spare
        self._rows = balanced_rows(data) if balance else np.arange(len(data), dtype=np.int64)
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def __getitem__(self, step: int) -> Batch:
        """The batch of this rank at `step`, from 0 without end."""
        size = len(self._rows)
        first = (step * self.world_size + self.rank) * self.batch_size
        places = [divmod(place, size) for place in range(first, first + self.batch_size)]
        drawn = [(epoch, int(self._shuffled(epoch)[place])) for epoch, place in places]
        samples: list[Mapping[str, Any]] = [self.data.samples[index] for _, index in drawn]
        batch = {name: torch.stack([each[name] for each in samples]) for name in self.data.fields}
        if self.augment:
            epochs, indices = (np.array(column) for column in zip(*drawn, strict=True))
            seeds = derive(self.seed, TRANSFORM, epochs, indices)
            batch = mild_affine(batch, self.data.fields, seeds, spare=self.spare)
            numbers = drawn_numbers(seeds, self.data.spatial_dims, spare=self.spare)
            batch[AUGMENTATION] = torch.from_numpy(numbers).float()
        for name in self.ranges:
            batch[name] = to_symmetric(batch[name], self.data.fields[name])
        return batch

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = self._rows[permutation(int(derive(self.seed, epoch)), len(self._rows))]
        return self._order


def training_batches(
    data: TrainingData,
    batch_size: int,
    *,
    seed: int = 0,
    first_step: int = 0,
    augment: bool = False,
    spare: float = 0.0,
    balance: bool = False,
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
        augment: move every sample a little, by a draw of its own for every (seed, epoch, index): `mild_affine`. Other
            transforms, TorchIO's for example, belong into the data set.
        spare: share of the samples that are left as they are, for a model that knows which: see `spared`.
        balance: show every class equally often: see `balanced_rows`.
        rank: which of `world_size` processes this is: together their batches at a step are one batch, without overlap.
        world_size: how many processes train together.
        workers: processes that make batches ahead of time.

    Returns:
        An iterator without end over dicts: ``image`` and ``source`` float32, their value range mapped linearly to
        [-1, 1] (and cut there, since an augmentation may overshoot); ``mask`` and ``label`` int64; with `augment` also
        ``augmentation`` float32 (batch, 1 + 2 · axes), see `drawn_numbers`.

    Raises:
        ConfigurationError: a batch size, rank, first step or number of workers outside its domain.
    """
    if first_step < 0 or workers < 0:
        raise ConfigurationError(
            f"`first_step` and `workers` must not be negative, got first_step={first_step!r}, workers={workers!r}."
        )
    batches = TrainingBatches(
        data, batch_size, seed=seed, augment=augment, spare=spare, balance=balance, rank=rank, world_size=world_size
    )
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


def spared(networks: Mapping[str, nn.Module]) -> float:
    """Which share of the samples a recipe with these networks wants left as they are."""
    return float(getattr(networks.get(AUGMENTATION), "spare", 0.0))


def balanced_rows(data: TrainingData) -> npt.NDArray[np.int64]:
    """Positions of an epoch in which every class occurs as often as the largest one; samples of others are repeated.

    Samples whose class is not known occur once.

    Raises:
        ConfigurationError: data without labels.
    """
    labels = data.labels()
    if labels is None:
        raise ConfigurationError(
            f"`balance` must go with data that have classes, got {data!r}. There is nothing to balance. Leave it out."
        )
    groups = [np.flatnonzero(labels == value) for value in np.unique(labels[labels != UNLABELLED])]
    largest = max(map(len, groups))
    unknown = np.flatnonzero(labels == UNLABELLED)
    return np.concatenate([*(np.resize(group, largest) for group in groups), unknown]).astype(np.int64)


def to_symmetric(values: Tensor, spec: FieldSpec) -> Tensor:
    """Values of a field mapped linearly from its value range to [-1, 1], and cut there; float32."""
    low, high = _limits(spec)
    return ((values.float() - low) * (2 / (high - low)) - 1).clamp_(-1, 1)


def from_symmetric(values: Tensor, spec: FieldSpec) -> Tensor:
    """The inverse of `to_symmetric`: values in [-1, 1], cut there, in the field's own value range."""
    low, high = _limits(spec)
    return (values.float().clamp(-1, 1) + 1) * ((high - low) / 2) + low


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
