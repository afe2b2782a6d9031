"""Layers with an equalised learning rate, and what progressive and style-based GANs share.

Karras, Aila, Laine, Lehtinen (2018), "Progressive growing of GANs for improved quality, stability, and variation",
sections 4.1 (equalised learning rate) and 4.2 (pixel norm).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLVE: Mapping[int, Callable[..., Tensor]] = {2: functional.conv2d, 3: functional.conv3d}
"""Number of spatial dimensions → convolution."""

_MODES = {2: "bilinear", 3: "trilinear"}


class EqualLinear(nn.Module):
    """A linear layer whose weights are of unit size and scaled by √(1 / inputs) at each call.

    Args:
        inputs: length of the input.
        outputs: length of the output.
        bias: value of the biases at first.
        rate: factor of the learning rate.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, features: Tensor) -> Tensor:
        """(batch, inputs) → (batch, outputs)."""
        return functional.linear(features, self.weight * self.scale, self.bias * self.rate)


class EqualConv(nn.Module):
    """A convolution of stride 1 that keeps the size, with weights as those of `EqualLinear`.

    Args:
        dims: 2 or 3.
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: 1 or 3.
    """

    def __init__(self, dims: int, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *[kernel] * dims))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.padding = 1 / math.sqrt(inputs * kernel**dims), kernel // 2
        self.dims = dims

    def forward(self, features: Tensor) -> Tensor:
        """(batch, inputs, *spatial) → (batch, outputs, *spatial)."""
        return CONVOLVE[self.dims](features, self.weight * self.scale, self.bias, padding=self.padding)


def pixel_norm(features: Tensor) -> Tensor:
    """Features (batch, channels, …) of mean square 1 over the channels at each place."""
    return features * (features.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def activated(features: Tensor) -> Tensor:
    """Leaky ReLU that keeps the size of what it is given."""
    return functional.leaky_relu(features, 0.2) * math.sqrt(2)


def doubled(features: Tensor) -> Tensor:
    """Twice the spatial size, interpolated linearly: a smooth filter leaves no checkerboard."""
    return functional.interpolate(features, scale_factor=2, mode=_MODES[features.ndim - 2], align_corners=False)


def halved(features: Tensor) -> Tensor:
    """Half the spatial size: means of neighbours."""
    pool: Any = functional.avg_pool2d if features.ndim == 4 else functional.avg_pool3d
    pooled: Tensor = pool(features, 2)
    return pooled
