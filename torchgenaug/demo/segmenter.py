"""The downstream task of the demo: a small U-Net that segments brain tissue, scored on real slices only.

References:
    Ronneberger, Fischer, Brox (2015). U-Net: convolutional networks for biomedical image segmentation. MICCAI.
    Dice (1945). Measures of the amount of ecologic association between species. Ecology 26, 297.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from torchgenaug.datasets.brain import NUM_TISSUES, BrainSlice


class Segmenter(nn.Module):
    """Two-level U-Net, 0.03 M parameters: (batch, channels, 64, 64) in [0, 1] → logits (batch, classes, 64, 64)."""

    def __init__(self, width: int = 16, *, channels: int = 1, num_classes: int = NUM_TISSUES) -> None:
        super().__init__()
        self.fine = _block(channels, width)
        self.coarse = _block(width, 2 * width)
        self.merge = _block(3 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Tissue logits of a batch of images."""
        fine = self.fine(image)
        coarse = self.coarse(functional.max_pool2d(fine, 2))
        upsampled = functional.interpolate(coarse, scale_factor=2.0)
        logits: Tensor = self.head(self.merge(torch.cat([fine, upsampled], 1)))
        return logits


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.GroupNorm(4, channels_out),
        nn.SiLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1),
        nn.GroupNorm(4, channels_out),
        nn.SiLU(),
    )


def train_step(model: Segmenter, optimizer: torch.optim.Optimizer, batch: Mapping[str, Tensor]) -> float:
    """One gradient step on a batch of images and masks; returns the cross-entropy."""
    loss = functional.cross_entropy(model(batch["image"]), batch["mask"][:, 0])
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def mean_dice(model: Segmenter, real: Dataset[BrainSlice]) -> float:
    """Mean Dice coefficient 2|A∩B| / (|A|+|B|) over CSF, grey and white matter, on all slices of a **real** set."""
    slices = [real[index] for index in range(len(real))]  # type: ignore[arg-type]
    truth = torch.cat([each["mask"] for each in slices])
    guess = model(torch.stack([each["image"] for each in slices])).argmax(1)
    scores: list[float] = []
    for tissue in range(1, NUM_TISSUES):
        a, b = guess == tissue, truth == tissue
        scores.append(2 * (a & b).sum().item() / max(1, (a.sum() + b.sum()).item()))
    return sum(scores) / len(scores)
