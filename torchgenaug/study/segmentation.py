"""`Segmentation`: trains a small U-Net on images and masks, and scores its mean Dice coefficient.

References:
    Ronneberger, Fischer, Brox (2015). U-Net: convolutional networks for biomedical image segmentation. MICCAI.
    Dice (1945). Measures of the amount of ecologic association between species. Ecology 26, 297.
"""

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


class SmallUNet(nn.Module):
    """Two-level U-Net: (batch, channels, height, width), even sizes → (batch, num_classes, height, width) logits.

    Args:
        num_classes: background included.
        channels: of the images.
        width: channels at full resolution, a multiple of 4.
    """

    def __init__(self, num_classes: int, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        self.fine = _block(channels, width)
        self.coarse = _block(width, 2 * width)
        self.merge = _block(3 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits of each pixel."""
        fine = self.fine(images)
        coarse = functional.interpolate(self.coarse(functional.max_pool2d(fine, 2)), scale_factor=2.0)
        logits: Tensor = self.head(self.merge(torch.cat([fine, coarse], 1)))
        return logits


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [nn.Conv2d(channels, channels_out, 3, padding=1), nn.GroupNorm(4, channels_out), nn.SiLU()]
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class Segmentation:
    """A task: `train` and `score` fit `Study`. Samples are ``(image, mask)`` or dicts of ``image`` and ``mask``.

    Attributes:
        num_classes: background, class 0, included.
        channels: of the images.
        width: of `SmallUNet`, a multiple of 4.
        batch_size: samples per step.
        learning_rate: of Adam at its start; it falls to 0 along a cosine over the steps.
        device: where the network is trained.
    """

    num_classes: int
    channels: int = 1
    width: int = 16
    batch_size: int = 8
    learning_rate: float = 3e-3
    device: str = "cpu"

    def train(self, dataset: Any, seed: int, steps: int) -> nn.Module:
        """Trains a `SmallUNet` for exactly `steps` optimizer steps, going over the data as often as needed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = SmallUNet(self.num_classes, self.channels, self.width).to(self.device)
        optimizer = torch.optim.Adam(model.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for images, masks in itertools.islice(self._batches(dataset, seed), steps):
            loss = functional.cross_entropy(model(images), masks[:, 0])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        return model.eval()

    def score(self, model: nn.Module, dataset: Any) -> float:
        """Mean over classes but the background of 2|A∩B| / (|A|+|B|), over all pixels of the data set: [0, 1].

        A class that neither masks nor predictions hold is left out; 0 where that leaves none.
        """
        both, sizes = torch.zeros(self.num_classes), torch.zeros(self.num_classes)
        with torch.no_grad():
            for batch in DataLoader(dataset, batch_size=64):
                images, masks = self._pair(batch)
                guess = model(images).argmax(1, keepdim=True)
                for each in range(1, self.num_classes):
                    a, b = guess == each, masks == each
                    both[each] += float((a & b).sum())
                    sizes[each] += float(a.sum() + b.sum())
        present = sizes > 0
        return float((2 * both[present] / sizes[present]).mean()) if present.any() else 0.0

    def _batches(self, dataset: Any, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in itertools.count():
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)
            shuffle = torch.Generator().manual_seed(int(seeding.derive(seed, epoch)) >> 1)
            for batch in DataLoader(dataset, self.batch_size, shuffle=True, generator=shuffle):
                yield self._pair(batch)

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        image, mask = (batch["image"], batch["mask"]) if isinstance(batch, Mapping) else batch[:2]
        return image.to(self.device), mask.to(self.device)
