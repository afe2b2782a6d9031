"""U-Net from an image or one-hot mask (and a latent vector) to an image.

Isola, Zhu, Zhou, Efros (2017), "Image-to-image translation with conditional adversarial networks": the U-Net generator,
with up-sampling and convolution in place of transposed convolutions, and with a latent vector that scales and shifts
the normalised features of the decoder (Huang and Belongie, 2017, "Arbitrary style transfer with adaptive instance
normalization") where the original has dropout, whose noise no seed could name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.gan import halvings_of
from torchgenaug.nets.intensities import to_intensities

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class TranslationUNet(nn.Module):
    """Images or one-hot masks (and latent vectors) → images. Called ``(latents, condition)`` or ``(condition)``.

    Args:
        in_channels: of the condition: channels of the source image, or classes of the mask.
        shape: (channels, *spatial) of the images, 2D or 3D; the condition has the same spatial size.
        width: channels at full resolution; each level below has twice as many, up to 8 · `width`.
        latent_dim: length of a latent vector of standard normal numbers; None: a function of the condition alone.
        value_range: the images' intensities: cut there.
        source_range: intensities of the condition, scaled to [-1, 1] at the entrance.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        shape: Sequence[int],
        width: int = 32,
        latent_dim: int | None = None,
        value_range: Sequence[float] = (-1.0, 1.0),
        source_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        channels, *spatial = shape
        count = max(2, halvings_of(spatial, least=2) - 1)
        widths = [width * min(8, 2**level) for level in range(count + 1)]
        convolution = _CONVOLUTIONS[len(spatial)]
        self.latent_dim = latent_dim
        self.enter = convolution(in_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Down(len(spatial), widths[k], widths[k + 1]) for k in range(count))
        self.up = nn.ModuleList(
            _Up(len(spatial), widths[k + 1] + widths[k], widths[k], latent_dim) for k in reversed(range(count))
        )
        self.leave = convolution(widths[0], channels, 3, padding=1)
        self.low, self.high = value_range
        low, high = source_range
        self.source_scale, self.source_shift = 2 / (high - low), (high + low) / 2

    def forward(self, *inputs: Tensor) -> Tensor:
        """Images (batch, *shape) of ``(latents, condition)``, without a `latent_dim` of ``(condition,)``."""
        if len(inputs) != (1 if self.latent_dim is None else 2):
            raise ConfigurationError(
                f"TranslationUNet must be called with {'' if self.latent_dim is None else 'latents and '}a condition, "
                f"got {len(inputs)} inputs."
            )
        latents = None if self.latent_dim is None else inputs[0]
        return self.decode(self.encode(inputs[-1]), latents)

    def decode(self, encoded: Sequence[Tensor], latents: Tensor | None) -> Tensor:
        """Images (batch, *shape) of features as `encode` returns them, and latents (batch, latent_dim) or None."""
        *skipped, features = encoded
        for up, skip in zip(self.up, reversed(skipped), strict=True):
            features = up(features, skip, latents)
        return to_intensities(clipped(self.leave(features)), self.low, self.high)

    def encode(self, condition: Tensor) -> list[Tensor]:
        """Features of a condition at full resolution and after each halving, (batch, channels, *spatial) each."""
        features = [self.enter((condition - self.source_shift) * self.source_scale)]
        for down in self.down:
            features.append(down(features[-1]))
        return features


def clipped(features: Tensor) -> Tensor:
    """`features` cut to [-1, 1]; outside, gradients pass that lead back into the range, and no others.

    The usual tanh has none where it saturates: a patch that overshot on the way would stay white for ever. With the
    gradient of the identity a critic drives features away without an end, as nothing that it sees changes.
    """
    clamped: Tensor = _Clipped.apply(features)  # type: ignore[no-untyped-call]
    return clamped


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        return features.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        # A step goes against the gradient.
        away = ((features > 1) & (gradient < 0)) | ((features < -1) & (gradient > 0))
        return gradient.masked_fill(away, 0)


class _Down(nn.Module):
    def __init__(self, dims: int, before: int, after: int) -> None:
        super().__init__()
        self.convolution = _CONVOLUTIONS[dims](before, after, 4, stride=2, padding=1)
        self.norm = _NORMS[dims](after, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.norm(self.convolution(functional.leaky_relu(features, 0.2)))
        return made


class _Up(nn.Module):
    """Up-sampling, the skipped features, a convolution, and a norm whose scale and shift the latents decide."""

    def __init__(self, dims: int, before: int, after: int, latent_dim: int | None) -> None:
        super().__init__()
        self.convolution = _CONVOLUTIONS[dims](before, after, 3, padding=1)
        self.norm = _NORMS[dims](after, affine=latent_dim is None)
        self.style = None if latent_dim is None else nn.Linear(latent_dim, 2 * after)

    def forward(self, features: Tensor, skip: Tensor, latents: Tensor | None) -> Tensor:
        features = functional.interpolate(functional.relu(features), scale_factor=2)
        features = self.norm(self.convolution(torch.cat([features, skip], 1)))
        if self.style is None or latents is None:
            return features
        ones = [1] * (features.ndim - 2)
        scale, shift = self.style(latents).unflatten(1, (2, -1, *ones)).unbind(1)
        styled: Tensor = features * (1 + scale) + shift
        return styled
