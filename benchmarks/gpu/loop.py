"""The training loop that the steps measure, and the data that it reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.gpu import networks
from benchmarks.gpu.settings import Settings
from torchgenaug import ClassLabels, FieldSpec, FunctionSynthesizer, SyntheticSequence, seeding

FIELDS = ("image", "label")


class Repeated(Dataset[tuple[Tensor, Tensor]]):
    """A few labelled images in memory, as often as wanted: (channels, side, side) float32 and () int64."""

    def __init__(self, side: int, length: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.images = torch.rand((min(length, 512), 1, side, side), generator=draw)
        self.labels = torch.arange(len(self.images)) % 2
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = index % len(self.images)
        return self.images[row], self.labels[row]


class Training:
    """A classifier and its optimizer on the device."""

    def __init__(self, settings: Settings, width: int) -> None:
        self.settings = settings
        self.network = networks.classifier(width).to(settings.device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 1e-3)

    def epoch(self, batches: Iterable[Any]) -> int:
        """One pass over batches of images and labels; returns how many samples it saw, when the device is done.

        Where there are no labels, the task is whether an image is brighter than average.
        """
        seen, device = 0, self.settings.device
        for images, *labels in batches:
            here = images.to(device, non_blocking=True)
            wanted = labels[0].to(device, non_blocking=True) if labels else (here.mean((1, 2, 3)) > 0.5).long()
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.network(here), wanted).backward()
            self.optimizer.step()
            seen += len(here)
        self.settings.synchronize()
        return seen


def loader(settings: Settings, data: Dataset[Any], batch_size: int, workers: int = 0) -> DataLoader[Any]:
    """Shuffled, in pinned memory where there is a GPU."""
    return DataLoader(
        data,
        batch_size,
        shuffle=True,
        drop_last=True,
        pin_memory=settings.is_cuda,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def noise_sequence(settings: Settings, side: int) -> SyntheticSequence:
    """Labelled noise, for questions to which it does not matter what the samples are."""

    def draw(seeds: Any, conditions: Any = None) -> dict[str, Tensor]:
        return {"image": seeding.normal(seeds, (1, side, side), device=settings.device)}

    synthesizer = FunctionSynthesizer(draw, {"image": FieldSpec((1, side, side))}, fingerprint="normal 1")
    return SyntheticSequence(synthesizer, ClassLabels(2))
