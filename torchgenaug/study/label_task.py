"""`LabelTask`: what classification and segmentation have in common: settings, network, training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from torchgenaug.study.networks import Build
from torchgenaug.study.training import Training


@dataclass(frozen=True)
class LabelTask:
    """How a network that labels images, or their pixels, is built and trained.

    Attributes:
        num_classes: how many classes; of masks with the background, class 0.
        channels: of the images.
        width: of the small network, a multiple of 4.
        batch_size: samples per step.
        learning_rate: of Adam at its start; it falls to 0 along a cosine over the steps.
        device: where the network is trained.
        dims: spatial axes, 2 or 3.
        network: another network than the small one, such as `monai_densenet` or `monai_unet` of
            `torchgenaug.study.networks`.
    """

    num_classes: int
    channels: int = 1
    width: int = 16
    batch_size: int = 8
    learning_rate: float = 3e-3
    device: str = "cpu"
    dims: int = 2
    network: Build | None = None

    target: ClassVar[str]
    """Field of a sample that is predicted."""
    small_network: ClassVar[Callable[[int, int, int, int], nn.Module]]
    """(classes, channels, width, spatial axes) → network."""

    def _build(self) -> nn.Module:
        if self.network is not None:
            return self.network(self.dims, self.channels, self.num_classes)
        return type(self).small_network(self.num_classes, self.channels, self.width, self.dims)

    @property
    def _training(self) -> Training:
        return Training(self.batch_size, self.learning_rate, self.device, ("image", self.target))
