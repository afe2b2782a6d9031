"""What tests of mixing share: images that all differ, and an order of them that changes with the epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from torchgenaug import seeding


class ByEpoch(Sampler[int]):
    """An order that is a function of the epoch, as that of a `DistributedSampler`."""

    def __init__(self, size: int) -> None:
        self.size, self.epoch = size, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(seeding.permutation(self.epoch, self.size).tolist())

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def gradients(size: int, side: int) -> torch.Tensor:
    """(size, 1, side, side) in [0, 1]: the same gradient, each a little brighter than the one before."""
    steps = torch.linspace(0, 0.1, size).reshape(-1, 1, 1, 1)
    return torch.linspace(0, 0.9, side * side).reshape(1, 1, side, side) + steps
