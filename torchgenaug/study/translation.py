"""`Translation`: trains a small U-Net from one image to another, and scores PSNR, SSIM and downstream Dice.

References:
    Wang, Bovik, Sheikh, Simoncelli (2004). Image quality assessment: from error visibility to structural similarity.
    IEEE Transactions on Image Processing 13, 600 (SSIM, by torchmetrics).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from torchgenaug.metrics.pairs.structure import structural_similarity
from torchgenaug.study.networks import Build, SmallUNet
from torchgenaug.study.segmentation import Segmentation
from torchgenaug.study.training import Training


@dataclass(frozen=True)
class Translation:
    """A task: `train`, and `score` or `measures`, fit `Study`. Samples are dicts of ``source`` and ``image``.

    Attributes:
        channels: of the source.
        outputs: channels of the image.
        width: of `SmallUNet`, a multiple of 4.
        batch_size: samples per step.
        learning_rate: of Adam at its start; it falls to 0 along a cosine over the steps.
        device: where the network is trained.
        dims: spatial axes, 2 or 3.
        value_range: of the image.
        network: another network than `SmallUNet`.
    """

    channels: int = 1
    outputs: int = 1
    width: int = 16
    batch_size: int = 8
    learning_rate: float = 3e-3
    device: str = "cpu"
    dims: int = 2
    value_range: tuple[float, float] = (0.0, 1.0)
    network: Build | None = None

    def train(self, dataset: Any, seed: int, steps: int) -> nn.Module:
        """Trains a network on the mean absolute error, for exactly `steps` optimizer steps."""
        return self._training.fit(self._build, functional.l1_loss, dataset, seed=seed, steps=steps)

    def score(self, model: nn.Module, dataset: Any) -> float:
        """PSNR in dB, the mean over images; an image without any error counts as 100 dB."""
        low, high = self.value_range
        found = []
        for guess, image in self._training.outputs(model, dataset):
            error = (guess.clamp(low, high) - image).square().flatten(1).mean(1)
            found.append(10 * torch.log10((high - low) ** 2 / error.clamp(min=(high - low) ** 2 * 1e-10)))
        return float(torch.cat(found).mean())

    def measures(
        self, model: nn.Module, dataset: Any, *, segmentation: tuple[Segmentation, nn.Module] | None = None
    ) -> dict[str, float]:
        """``PSNR``, ``SSIM`` and, with a trained segmenter, ``downstream Dice`` of its masks on translated images.

        Args:
            model: of `train`.
            dataset: samples of ``source`` and ``image``, for downstream Dice also ``mask``.
            segmentation: task and network, trained on real images; bind it with `functools.partial`.
        """
        low, high = self.value_range
        pairs = [(guess.clamp(low, high), image) for guess, image in self._training.outputs(model, dataset)]
        similar = torch.cat([structural_similarity(image, guess, self.value_range) for guess, image in pairs])
        found = {"PSNR": self.score(model, dataset), "SSIM": float(similar.mean())}
        if segmentation is not None:
            task, network = segmentation
            translated = torch.cat([guess for guess, _ in pairs]).cpu()
            found["downstream Dice"] = task.score(network, _WithImages(dataset, translated))
        return found

    def _build(self) -> nn.Module:
        if self.network is not None:
            return self.network(self.dims, self.channels, self.outputs)
        return SmallUNet(self.outputs, self.channels, self.width, self.dims)

    @property
    def _training(self) -> Training:
        return Training(self.batch_size, self.learning_rate, self.device, ("source", "image"))


class _WithImages(Dataset[Any]):
    """Samples whose image is another."""

    def __init__(self, data: Any, images: torch.Tensor) -> None:
        self.data, self.images = data, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return {**self.data[index], "image": self.images[index]}
