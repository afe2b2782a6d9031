"""Self-attention over the places of an image, for generators and critics.

Zhang, Goodfellow, Metaxas, Odena (2019), "Self-attention generative adversarial networks", section 3: every place
takes values from all others, so that distant parts of an image agree. The gate begins at zero, as theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
_POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_MOST_PLACES = 1024


def attended_level(spatial: Sequence[int], levels: int) -> int:
    """How often sizes are to be halved, at least once, for attention to be affordable: to 1,024 places at most.

    Args:
        spatial: sizes of the image.
        levels: the most halvings.
    """
    wanted = (level for level in range(1, levels) if math.prod(size // 2**level for size in spatial) <= _MOST_PLACES)
    return next(wanted, levels)


class SelfAttention(nn.Module):
    """Features (batch, channels, *spatial) → features of the same shape: the input plus what attention found.

    Args:
        spatial_dims: 2 or 3.
        channels: of the features.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        convolution, inner = _CONVOLUTIONS[spatial_dims], max(1, channels // 8)
        self.query = convolution(channels, inner, 1, bias=False)
        self.key = nn.Sequential(convolution(channels, inner, 1, bias=False), _POOLS[spatial_dims](2))
        self.value = nn.Sequential(convolution(channels, max(1, channels // 2), 1, bias=False), _POOLS[spatial_dims](2))
        self.leave = convolution(max(1, channels // 2), channels, 1, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """The features and, weighted by the gate, what each place takes from all others."""
        query, key, value = (each(features).flatten(2) for each in (self.query, self.key, self.value))
        # Written out: gradient penalties differentiate twice, which fused attention cannot.
        weights = (query.transpose(1, 2) @ key).softmax(2)
        found: Tensor = self.leave((value @ weights.transpose(1, 2)).unflatten(2, features.shape[2:]))
        return features + self.gate * found
