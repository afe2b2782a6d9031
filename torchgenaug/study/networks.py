"""Small downstream networks in 2D and 3D: our own, and MONAI's.

References:
    Ronneberger, Fischer, Brox (2015). U-Net: convolutional networks for biomedical image segmentation. MICCAI.
    Kerfoot et al. (2019). Left-ventricle quantification using residual U-Net. STACOM (MONAI's UNet).
    Huang, Liu, van der Maaten, Weinberger (2017). Densely connected convolutional networks. CVPR (MONAI's DenseNet).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.errors import missing_extra

Build: TypeAlias = Callable[[int, int, int], nn.Module]
"""(spatial axes, channels of the images, channels of the output) → network, such as `monai_unet`."""


def _layers(dims: int) -> tuple[Any, Any, Any]:
    """Convolution, maximum pooling, adaptive average pooling."""
    if dims == 2:
        return nn.Conv2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d
    return nn.Conv3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d


class SmallClassifier(nn.Module):
    """Three convolutions: (batch, channels, *spatial) → (batch, num_classes) logits.

    Args:
        num_classes: how many classes.
        channels: of the images.
        width: channels of the first convolution, a multiple of 4.
        dims: spatial axes, 2 or 3.
    """

    def __init__(self, num_classes: int, channels: int = 1, width: int = 16, dims: int = 2) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 3 * width)
        conv, pool, average = _layers(dims)
        blocks = [
            nn.Sequential(conv(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.ReLU(), pool(2))
            for a, b in itertools.pairwise(widths)
        ]
        self.layers = nn.Sequential(*blocks, average(2), nn.Flatten(), nn.Linear(2**dims * widths[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Class logits."""
        logits: Tensor = self.layers(images)
        return logits


class SmallUNet(nn.Module):
    """Two-level U-Net: (batch, channels, *spatial) of even sizes → (batch, num_classes, *spatial).

    Args:
        num_classes: background included; or channels of the output.
        channels: of the images.
        width: channels at full resolution, a multiple of 4.
        dims: spatial axes, 2 or 3.
    """

    def __init__(self, num_classes: int, channels: int = 1, width: int = 16, dims: int = 2) -> None:
        super().__init__()
        conv, pool, _ = _layers(dims)
        self.fine = _block(conv, channels, width)
        self.coarse = _block(conv, width, 2 * width)
        self.merge = _block(conv, 3 * width, width)
        self.head = conv(width, num_classes, 1)
        self.pool = pool(2)

    def forward(self, images: Tensor) -> Tensor:
        """One value per class and pixel."""
        fine = self.fine(images)
        coarse = functional.interpolate(self.coarse(self.pool(fine)), scale_factor=2.0)
        logits: Tensor = self.head(self.merge(torch.cat([fine, coarse], 1)))
        return logits


def monai_unet(dims: int, channels: int, outputs: int) -> nn.Module:
    """A small residual U-Net of MONAI; sizes must be multiples of 4."""
    return _monai().UNet(  # type: ignore[no-any-return]
        spatial_dims=dims,
        in_channels=channels,
        out_channels=outputs,
        channels=(16, 32, 64),
        strides=(2, 2),
        num_res_units=1,
    )


def monai_densenet(dims: int, channels: int, outputs: int) -> nn.Module:
    """A small DenseNet of MONAI."""
    return _monai().DenseNet(  # type: ignore[no-any-return]
        dims, channels, outputs, init_features=16, growth_rate=8, block_config=(2, 4, 4)
    )


def _monai() -> Any:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise missing_extra("A network of MONAI", package="monai", extra="monai") from error
    return nets


def _block(conv: Any, channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [conv(channels, channels_out, 3, padding=1), nn.GroupNorm(4, channels_out), nn.SiLU()]
    return nn.Sequential(*layers)
