"""U-Net of gated convolutions that fills a marked region of an image from its surroundings.

Yu, Lin, Yang, Shen, Lu, Huang (2019), "Free-form image inpainting with gated convolution", eq. 2: each layer learns
where its own features are valid, where a plain convolution treats what is missing like an intensity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.filling import captured, split_marks
from torchgenaug.nets.gan import halvings_of
from torchgenaug.nets.intensities import to_intensities
from torchgenaug.nets.translation import clipped

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}


class GatedUNet(nn.Module):
    """Latents, images with a region left out, and marks of the region by class → images with the region filled.

    Called ``(latents, given)``. Every voxel outside of the region is returned to the bit, but for cutting to
    `value_range`.

    Args:
        shape: (channels, *spatial) of an image, 2D or 3D.
        marks: classes of a region, each with a channel of marks behind those of the image.
        width: channels at full resolution; each level below has twice as many, up to 8 · `width`.
        latent_dim: length of a latent vector of standard normal numbers: what the surroundings leave open.
        value_range: the images' intensities, and the range of the marks: the upper end inside of the region.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        marks: int = 1,
        width: int = 32,
        latent_dim: int = 16,
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        channels, *spatial = shape
        dims, count = len(spatial), max(2, halvings_of(spatial, least=2) - 1)
        widths = [width * min(8, 2**level) for level in range(count + 1)]
        self.channels = channels
        self.low, self.high = value_range
        self.enter = _Gated(dims, channels + marks, widths[0])
        self.down = nn.ModuleList(_Gated(dims, widths[k], widths[k + 1], stride=2) for k in range(count))
        self.middle = nn.Sequential(*(_Gated(dims, widths[-1], widths[-1], dilation=rate) for rate in (2, 4)))
        self.style = nn.Linear(latent_dim, widths[-1])
        self.up = nn.ModuleList(_Gated(dims, widths[k + 1] + widths[k], widths[k]) for k in reversed(range(count)))
        self.leave = _CONVOLUTIONS[dims](widths[0], channels, 3, padding=1)

    def forward(self, latents: Tensor, given: Tensor) -> Tensor:
        """Images (batch, *shape) of latents (batch, latent_dim) and images with marks (batch, channels + marks, …).

        Raises:
            ConfigurationError: a sample without a marked voxel, or without any other (not looked for inside of CUDA
                graphs).
        """
        values, marked = split_marks(given, self.channels, self.low, self.high)
        hidden = marked.any(1, keepdim=True)
        if not captured(given):
            empty = ~hidden.flatten(1).any(1)
            if bool(empty.any()):
                raise ConfigurationError(
                    "`source` must mark a region in every sample, got none at position "
                    f"{int(empty.nonzero()[0, 0])}. The sample would be the real image. A mark is {self.high:g} inside "
                    f"of a region, else {self.low:g}. See PlacedLesions."
                )
            whole = hidden.flatten(1).all(1)
            if bool(whole.any()):
                raise ConfigurationError(
                    "`source` must leave something around the region in every sample, got all of the image marked at "
                    f"position {int(whole.nonzero()[0, 0])}. There is nothing to fill it from. A mark is {self.high:g} "
                    f"inside of a region, else {self.low:g}. For whole images use another family, such as dcgan."
                )
        known = torch.cat([torch.where(hidden, self.low, values), given[:, self.channels :]], 1)
        features = self.enter((known - (self.high + self.low) / 2) * (2 / (self.high - self.low)))
        skipped = []
        for down in self.down:
            skipped.append(features)
            features = down(features)
        style = self.style(latents)[(...,) + (None,) * (features.ndim - 2)]
        features = self.middle(features + style)
        for up, skip in zip(self.up, reversed(skipped), strict=True):
            features = up(torch.cat([functional.interpolate(features, scale_factor=2), skip], 1))
        made = to_intensities(clipped(self.leave(features)), self.low, self.high)
        return torch.where(hidden, made, values.clamp(self.low, self.high))


class _Gated(nn.Module):
    """ELU(features) · σ(gate), both of one convolution."""

    def __init__(self, dims: int, before: int, after: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        size = 4 if stride == 2 else 3
        padding = 1 if stride == 2 else dilation
        self.convolution = _CONVOLUTIONS[dims](before, 2 * after, size, stride, padding, dilation)

    def forward(self, features: Tensor) -> Tensor:
        made, gate = self.convolution(features).chunk(2, 1)
        return functional.elu(made) * torch.sigmoid(gate)
