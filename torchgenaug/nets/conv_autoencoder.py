"""Convolutional trunk and decoder for images of any size, 2D and 3D: the networks inside our autoencoders."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_GROUPS = 4
_SMALLEST = 4  # halving stops before an axis gets smaller


def halvings(spatial: Sequence[int], levels: int | None = None) -> list[tuple[int, ...]]:
    """Spatial shapes from the image's to the smallest, each half of the one before (rounded up).

    Args:
        spatial: spatial shape of the image.
        levels: how often to halve; default: down to about 4 pixels, at most 4 times.

    Example:
        >>> halvings((28, 28))
        [(28, 28), (14, 14), (7, 7)]
    """
    if levels is None:
        levels = max(1, min(4, int(math.log2(max(min(spatial), 1) / _SMALLEST)) if min(spatial) >= _SMALLEST else 0))
    shapes = [tuple(int(size) for size in spatial)]
    for _ in range(levels):
        shapes.append(tuple(-(-size // 2) for size in shapes[-1]))
    return shapes


class ConvTrunk(nn.Module):
    """Image → features: per level one convolution of stride 2 and one of stride 1, channels doubling.

    Group normalisation rather than batch normalisation: nothing depends on the batch, and small batches train well.

    Args:
        shape: (channels, *spatial) of the image, 2D or 3D, any size.
        width: channels of the first level, a multiple of 4.
        levels: how often to halve; default: see `halvings`.

    Attributes:
        shapes: spatial shapes, from the image's to the features'.
        channels: channels of the features.
    """

    def __init__(self, shape: Sequence[int], width: int = 16, levels: int | None = None) -> None:
        super().__init__()
        self.shapes = halvings(shape[1:], levels)
        conv = nn.Conv2d if len(shape) == 3 else nn.Conv3d
        stages, inside = [], int(shape[0])
        for level in range(len(self.shapes) - 1):
            outside = width * 2**level
            stages.append(_stage(conv(inside, outside, 3, stride=2, padding=1), conv(outside, outside, 3, padding=1)))
            inside = outside
        self.stages = nn.ModuleList(stages)
        self.channels = inside

    @property
    def num_features(self) -> int:
        """Length of the flattened features."""
        return self.channels * math.prod(self.shapes[-1])

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, *spatial) → (batch, `channels`, *shapes[-1])."""
        for stage in self.stages:
            images = stage(images)
        return images


class ConvDecoder(nn.Module):
    """The trunk backwards: features → image in [0, 1], by interpolation and convolution (no checkerboard).

    Args:
        shape: (channels, *spatial) of the image.
        width: as of the trunk.
        levels: as of the trunk.
        inside: channels of the features; default: the trunk's.
    """

    def __init__(
        self, shape: Sequence[int], width: int = 16, levels: int | None = None, inside: int | None = None
    ) -> None:
        super().__init__()
        self.shapes = halvings(shape[1:], levels)[::-1]
        conv = nn.Conv2d if len(shape) == 3 else nn.Conv3d
        self.channels = width * 2 ** (len(self.shapes) - 2) if len(self.shapes) > 1 else width
        self.first = conv(inside or self.channels, self.channels, 3, padding=1)
        stages, channels = [], self.channels
        for level in range(len(self.shapes) - 1, 0, -1):
            outside = width * 2 ** max(level - 2, 0)
            stages.append(_stage(conv(channels, outside, 3, padding=1), conv(outside, outside, 3, padding=1)))
            channels = outside
        self.stages = nn.ModuleList(stages)
        self.last = conv(channels, int(shape[0]), 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, inside, *shapes[0]) → (batch, channels, *spatial) in [0, 1]."""
        return torch.sigmoid(self.scores(features))

    def scores(self, features: Tensor) -> Tensor:
        """The same before the sigmoid."""
        hidden = functional.silu(self.first(features))
        for stage, shape in zip(self.stages, self.shapes[1:], strict=True):
            hidden = stage(functional.interpolate(hidden, size=shape, mode="nearest"))
        scores: Tensor = self.last(hidden)
        return scores


def _stage(first: nn.Conv2d | nn.Conv3d, second: nn.Conv2d | nn.Conv3d) -> nn.Sequential:
    """Two convolutions, each with its normalisation."""
    channels = second.out_channels
    return nn.Sequential(
        first, nn.GroupNorm(_GROUPS, channels), nn.SiLU(), second, nn.GroupNorm(_GROUPS, channels), nn.SiLU()
    )
