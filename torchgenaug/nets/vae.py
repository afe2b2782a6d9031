"""Encoder and decoder of a variational autoencoder with standard normal latents, for images, masks and both.

Kingma and Welling (2014), "Auto-encoding variational Bayes". Where pythae has the whole model, `PythaeNetwork` is used
instead; these are for losses that pythae does not have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.conv_autoencoder import ConvDecoder, ConvTrunk
from torchgenaug.nets.intensities import to_intensities


class GaussianEncoder(nn.Module):
    """Images (and classes) → mean and log-variance of their latents.

    Args:
        latent_dim: length of a latent vector.
        shape: (channels, *spatial) of what is encoded, 2D or 3D.
        width: channels of the first level, a multiple of 4.
        num_classes: classes of the images; None: unconditional.
    """

    def __init__(
        self, *, latent_dim: int, shape: Sequence[int], width: int = 16, num_classes: int | None = None
    ) -> None:
        super().__init__()
        _check_width(width)
        self.trunk = ConvTrunk(shape, width)
        self.leave = nn.Linear(self.trunk.num_features, 2 * latent_dim)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, self.trunk.num_features)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (batch, latent_dim) of images (batch, *shape) and labels int64 (batch,)."""
        features = self.trunk(images).flatten(1)
        if self.embedding is not None:
            features = features + self.embedding(_given(labels))
        mean, log_variance = self.leave(features).chunk(2, 1)
        return mean, log_variance.clamp(-10, 10)


class LatentDecoder(nn.Module):
    """Latent vectors (and classes) → images, or class scores of masks.

    Args:
        latent_dim: length of a latent vector of standard normal numbers.
        shape: (channels, *spatial) of the output, 2D or 3D.
        width: channels at full resolution, a multiple of 4.
        num_classes: classes of the images; None: unconditional.
        value_range: the images' intensities, by a scaled sigmoid; None: unbounded scores, one channel per class.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        shape: Sequence[int],
        width: int = 16,
        num_classes: int | None = None,
        value_range: Sequence[float] | None = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        _check_width(width)
        self.decoder = ConvDecoder(shape, width)
        start = [self.decoder.channels, *self.decoder.shapes[0]]
        self.enter = nn.Sequential(nn.Linear(latent_dim, math.prod(start)), nn.Unflatten(1, start))
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, latent_dim)
        self.limits = None if value_range is None else (float(value_range[0]), float(value_range[1]))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images or scores (batch, *shape) of latents (batch, latent_dim) and labels int64 (batch,)."""
        if self.embedding is not None:
            latents = latents + self.embedding(_given(labels))
        scores = self.decoder.scores(self.enter(latents))
        return scores if self.limits is None else to_intensities(torch.tanh(scores / 2), *self.limits)


def _check_width(width: int) -> None:
    if width < 4 or width % 4:
        raise ConfigurationError(f"`width` must be a multiple of 4, got {width}. For example 16.")


def _given(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ConfigurationError("`labels` must be given to a network with classes, got None.")
    return labels
