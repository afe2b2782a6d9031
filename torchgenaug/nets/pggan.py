"""Generator and critic that grow: from images of about 4 pixels a side to the full size.

Karras, Aila, Laine, Lehtinen (2018), "Progressive growing of GANs for improved quality, stability, and variation":
sections 2 (growing, fading in), 3 (spread within the batch) and 4 (equalised rates, pixel norm).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.batch_features import batch_spread
from torchgenaug.nets.equalised import EqualConv, EqualLinear, activated, halved, pixel_norm
from torchgenaug.nets.gan import halvings_of
from torchgenaug.nets.intensities import to_intensities


class PGGANGenerator(nn.Module):
    """Latent vectors (and classes) → images, at full size however far it has grown.

    Args:
        latent_dim: length of a latent vector of standard normal numbers.
        shape: (channels, *spatial) of an image, 2D or 3D.
        width: channels at full resolution; each level below has twice as many, up to 8 · `width`.
        num_classes: classes, each with a learned vector next to the latent one; None: unconditional.
        value_range: the images' intensities, by a scaled tanh.

    Attributes:
        growth: a buffer, from 0 to `levels`: how often the smallest images have been doubled; what is behind the point
            is how far the last doubling has faded in.
    """

    growth: Tensor

    def __init__(
        self,
        *,
        latent_dim: int,
        shape: Sequence[int],
        width: int = 16,
        num_classes: int | None = None,
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        channels, *spatial = shape
        dims, self.levels = len(spatial), halvings_of(spatial)
        widths = _widths(width, self.levels)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, latent_dim)
        start = [widths[0], *(size // 2**self.levels for size in spatial)]
        inputs = latent_dim * (1 if num_classes is None else 2)
        self.project = nn.Sequential(EqualLinear(inputs, math.prod(start)), nn.Unflatten(1, start))
        pairs = [(widths[0], widths[0]), *itertools.pairwise(widths)]
        self.blocks = nn.ModuleList(_Convolutions(dims, before, after, after, normed=True) for before, after in pairs)
        self.leave = nn.ModuleList(EqualConv(dims, each, channels, 1) for each in widths)
        self.register_buffer("growth", torch.zeros(()))
        self.low, self.high = value_range

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (batch, *shape) of latents (batch, latent_dim) and labels int64 (batch,)."""
        grown = self.grown(latents, labels)
        level = math.ceil(float(self.growth))
        full = functional.interpolate(grown, scale_factor=2 ** (self.levels - level)) if level < self.levels else grown
        return to_intensities(full, self.low, self.high)

    def grown(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images in [-1, 1] of the size that it has grown to."""
        latents = pixel_norm(latents)
        if self.embedding is not None:
            if labels is None:
                raise ConfigurationError("`labels` must be given to a generator with classes, got None.")
            latents = torch.cat([latents, pixel_norm(self.embedding(labels))], 1)
        growth = float(self.growth)
        level = math.ceil(growth)
        features = self.blocks[0](pixel_norm(activated(self.project(latents))))
        before = features
        for block in list(self.blocks)[1 : level + 1]:
            before = functional.interpolate(features, scale_factor=2)
            features = block(before)
        images = torch.tanh(self.leave[level](features))
        if growth < level:
            images = torch.lerp(torch.tanh(self.leave[level - 1](before)), images, growth - (level - 1))
        return images


class PGGANCritic(nn.Module):
    """Images of the size that the generator has grown to → scores, higher for real ones.

    Args:
        shape: (channels, *spatial) of a full image.
        width: as of the generator.
        num_classes: classes of the images, by projection (Miyato and Koyama, 2018); None: unconditional.
    """

    def __init__(self, *, shape: Sequence[int], width: int = 16, num_classes: int | None = None) -> None:
        super().__init__()
        channels, *spatial = shape
        dims, self.levels = len(spatial), halvings_of(spatial)
        widths = _widths(width, self.levels)
        self.enter = nn.ModuleList(EqualConv(dims, channels, each, 1) for each in widths)
        pairs = [(widths[0], widths[0]), *itertools.pairwise(widths)]
        # Block k goes from the width of level k to that of the level before.
        self.blocks = nn.ModuleList(_Convolutions(dims, after, after, before, normed=False) for before, after in pairs)
        self.last = EqualConv(dims, widths[0] + 1, widths[0], 3)
        places = math.prod(size // 2**self.levels for size in spatial)
        self.join = nn.Sequential(nn.Flatten(), EqualLinear(widths[0] * places, widths[0]))
        self.score = EqualLinear(widths[0], 1)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, widths[0])

    def forward(self, images: Tensor, growth: float, labels: Tensor | None = None) -> Tensor:
        """Scores (batch,) of images (batch, channels, *spatial of the level) at this growth."""
        level = math.ceil(growth)
        features = activated(self.enter[level](images))
        for number in range(level, 0, -1):
            features = halved(self.blocks[number](features))
            if number == level and growth < level:
                small = activated(self.enter[level - 1](halved(images)))
                features = torch.lerp(small, features, growth - (level - 1))
        features = activated(self.last(batch_spread(self.blocks[0](features))))
        features = activated(self.join(features))
        scores: Tensor = self.score(features)[:, 0]
        if self.embedding is not None:
            if labels is None:
                raise ConfigurationError("`labels` must be given to a critic with classes, got None.")
            scores = scores + (self.embedding(labels) * features).sum(1) / math.sqrt(features.shape[1])
        return scores


def at_growth(images: Tensor, growth: float, levels: int) -> Tensor:
    """Real images as a generator of this growth makes them: of its size, and faded between two sizes.

    Args:
        images: (batch, channels, *spatial) of full size.
        growth: of the generator.
        levels: of a full-grown one.
    """
    level = math.ceil(growth)
    for _ in range(levels - level):
        images = halved(images)
    if growth == level:
        return images
    return torch.lerp(functional.interpolate(halved(images), scale_factor=2), images, growth - (level - 1))


def _widths(width: int, levels: int) -> list[int]:
    return [width * min(8, 2**level) for level in range(levels, -1, -1)]


class _Convolutions(nn.Module):
    """Two convolutions, each with its activation."""

    def __init__(self, dims: int, before: int, between: int, after: int, *, normed: bool) -> None:
        super().__init__()
        self.one, self.two = EqualConv(dims, before, between, 3), EqualConv(dims, between, after, 3)
        self.normed = normed

    def forward(self, features: Tensor) -> Tensor:
        for layer in (self.one, self.two):
            features = activated(layer(features))
            features = pixel_norm(features) if self.normed else features
        return features
