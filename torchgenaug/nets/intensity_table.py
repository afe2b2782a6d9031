"""`IntensityTable`: a learned look-up table from the intensities of one modality to those of another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchgenaug.nets.intensities import to_intensities


class IntensityTable(nn.Module):
    """Sources (batch, channels, *spatial) → images of the same shape, each pixel by itself: a piecewise linear map.

    Args:
        channels: of sources and images; each has a map of its own.
        knots: support points, evenly over the range of the source.
        value_range: the images' intensities: cut there.
        source_range: intensities of the source.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        knots: int = 33,
        value_range: Sequence[float] = (-1.0, 1.0),
        source_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, knots).repeat(channels, 1))
        self.low, self.high = value_range
        self.source_low, self.source_high = source_range

    def forward(self, source: Tensor) -> Tensor:
        """Images (batch, channels, *spatial)."""
        knots = self.table.shape[1]
        places = (source - self.source_low) * ((knots - 1) / (self.source_high - self.source_low))
        places = places.clamp(0, knots - 1).flatten(2).movedim(1, 0).flatten(1)  # (channels, pixels)
        below = places.floor().long().clamp(max=knots - 2)
        low, high = self.table.gather(1, below), self.table.gather(1, below + 1)
        mapped = torch.lerp(low, high, (places - below).to(low.dtype))
        images = mapped.view(source.shape[1], len(source), -1).movedim(0, 1).reshape(source.shape)
        return to_intensities(images.clamp(-1, 1), self.low, self.high)
