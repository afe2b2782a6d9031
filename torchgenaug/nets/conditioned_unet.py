"""`ConditionedUNet`: MONAI's `DiffusionModelUNet` conditioned on classes, or on a mask or image as further channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import missing_extra


class ConditionedUNet(nn.Module):
    """(noisy images, times, condition) → output of the network.

    Args:
        arguments: of `DiffusionModelUNet`; ``num_class_embeds`` for classes, as many more ``in_channels`` as a mask or
            source image has for these.
        source_range: intensities of a source image, scaled to [-1, 1] at the entrance; one-hot masks come in [0, 1] and
            are left as they are with (-1, 1).

    Raises:
        MissingExtraError: MONAI is not installed.
    """

    def __init__(self, arguments: Mapping[str, Any], source_range: Sequence[float] = (-1.0, 1.0)) -> None:
        super().__init__()
        try:
            from monai.networks.nets import DiffusionModelUNet
        except ImportError as error:
            raise missing_extra("This network", package="monai", extra="monai") from error
        self.unet: Any = DiffusionModelUNet(**arguments)
        self.with_classes = arguments.get("num_class_embeds") is not None
        low, high = source_range
        self.scale, self.shift = 2 / (high - low), (high + low) / 2

    def forward(self, noisy: Tensor, time: Tensor, condition: Tensor | None, extra: Sequence[Tensor] = ()) -> Tensor:
        """The output (batch, channels, *spatial).

        Args:
            noisy: (batch, channels, *spatial).
            time: (batch,) in [0, 1].
            condition: labels int64 (batch,), one-hot masks or source images (batch, channels, *spatial); or None.
            extra: further channels, of the batch's or of a broadcast shape.
        """
        labels = condition if self.with_classes else None
        given = [] if condition is None or self.with_classes else [(condition - self.shift) * self.scale]
        given += [each.expand(len(noisy), -1, *noisy.shape[2:]) for each in extra]
        output: Tensor = self.unet(torch.cat([noisy, *given], 1), 1000 * time, class_labels=labels)
        return output
