"""`Classification`: trains a small network on images and classes, and scores its accuracy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from torchgenaug import seeding


class SmallClassifier(nn.Module):
    """Three convolutions: (batch, channels, height, width) → (batch, num_classes) logits.

    Args:
        num_classes: how many classes.
        channels: of the images.
        width: channels of the first convolution.
    """

    def __init__(self, num_classes: int, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 3 * width)
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in itertools.pairwise(widths)
        ]
        self.layers = nn.Sequential(
            *blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Class logits."""
        logits: Tensor = self.layers(images)
        return logits


@dataclass(frozen=True)
class Classification:
    """A task: `train` and `score` fit `Study`. Samples are ``(image, label)`` or dicts of ``image`` and ``label``.

    Attributes:
        num_classes: how many classes.
        channels: of the images.
        width: of `SmallClassifier`, a multiple of 4.
        batch_size: samples per step.
        learning_rate: of Adam at its start; it falls to 0 along a cosine over the steps.
        device: where the network is trained.
    """

    num_classes: int
    channels: int = 1
    width: int = 16
    batch_size: int = 32
    learning_rate: float = 3e-3
    device: str = "cpu"

    def train(self, dataset: Any, seed: int, steps: int) -> nn.Module:
        """Trains a `SmallClassifier` for exactly `steps` optimizer steps, going over the data as often as needed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = SmallClassifier(self.num_classes, self.channels, self.width).to(self.device)
        optimizer = torch.optim.Adam(model.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for images, labels in itertools.islice(self._batches(dataset, seed), steps):
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        return model.eval()

    def score(self, model: nn.Module, dataset: Any) -> float:
        """Accuracy, the fraction of samples whose class is found: [0, 1]."""
        right = total = 0
        with torch.no_grad():
            for batch in DataLoader(dataset, batch_size=256):
                images, labels = self._pair(batch)
                right += int((model(images).argmax(1) == labels).sum())
                total += len(labels)
        return right / total

    def _batches(self, dataset: Any, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in itertools.count():
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)
            # One order per seed and epoch: arms whose data sets are equally long read the same positions.
            shuffle = torch.Generator().manual_seed(int(seeding.derive(seed, epoch)) >> 1)
            for batch in DataLoader(dataset, self.batch_size, shuffle=True, generator=shuffle):
                yield self._pair(batch)

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        image, label = (batch["image"], batch["label"]) if isinstance(batch, Mapping) else batch[:2]
        return image.to(self.device), label.to(self.device)
