"""The training loop of the tasks that are built in: exactly so many optimizer steps, in one order per seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from torchgenaug import seeding


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        batch_size: samples per step.
        learning_rate: of Adam at its start; it falls to 0 along a cosine over the steps.
        device: where the network is trained.
        keys: fields of a sample that is a dict: input, then target; of a tuple the first two positions count.
    """

    batch_size: int
    learning_rate: float
    device: str
    keys: tuple[str, str]

    def fit(
        self,
        build: Callable[[], nn.Module],
        loss: Callable[[Tensor, Tensor], Tensor],
        dataset: Any,
        *,
        seed: int,
        steps: int,
    ) -> nn.Module:
        """Trains for exactly `steps` optimizer steps, going over the data as often as needed.

        Args:
            build: → network; its weights are drawn from `seed`.
            loss: (output, target) → number.
            dataset: map-style data set.
            seed: of the weights and of the order of samples.
            steps: optimizer steps.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build().to(self.device)
        for parameter in model.parameters():
            if parameter.ndim == 4:  # convolutions in 2D: a step of a small U-Net takes 59 ms in place of 81 on a CPU
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for inputs, targets in itertools.islice(self._shuffled(dataset, seed), steps):
            value = loss(model(inputs), targets)
            optimizer.zero_grad()
            torch.autograd.backward(value)
            optimizer.step()
            schedule.step()
        return model.eval()

    def outputs(self, model: nn.Module, dataset: Any, batch_size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs of the network and targets, batch by batch, in the order of the data set."""
        with torch.no_grad():
            for batch in DataLoader(dataset, batch_size=batch_size):
                inputs, targets = self._pair(batch)
                yield model(inputs), targets

    def _shuffled(self, dataset: Any, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in itertools.count():
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)
            # One order per seed and epoch: arms whose data sets are equally long read the same positions.
            shuffle = torch.Generator().manual_seed(int(seeding.derive(seed, epoch)) >> 1)
            for batch in DataLoader(dataset, self.batch_size, shuffle=True, generator=shuffle):
                yield self._pair(batch)

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        first, second = (batch[key] for key in self.keys) if isinstance(batch, Mapping) else batch[:2]
        return first.to(self.device), second.to(self.device)
