"""Style-based generator and residual critic, small enough for small data, 2D and 3D.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila (2020), "Analyzing and improving the image quality of StyleGAN":
section 2 (modulated convolutions), section 4 (skips in the generator, residuals in the critic). Left out is the noise
that they add to features: no seed could name it. Upsampling is linear interpolation, whose filter is theirs.

References:
    Karras, Laine, Aila (2019), "A style-based generator architecture for GANs", appendix B (truncation).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.batch_features import batch_spread
from torchgenaug.nets.equalised import CONVOLVE, EqualConv, EqualLinear, activated, doubled, halved, pixel_norm
from torchgenaug.nets.gan import halvings_of
from torchgenaug.nets.intensities import to_intensities

_MAPPING_LAYERS, _MAPPING_RATE = 4, 0.01


class StyleGAN2Generator(nn.Module):
    """Latent vectors (and classes) → styles → images.

    Args:
        latent_dim: length of a latent vector of standard normal numbers, and of a style.
        shape: (channels, *spatial) of an image, 2D or 3D.
        width: channels at full resolution; each level below has twice as many, up to 8 · `width`.
        num_classes: classes, each with a learned vector next to the latent one; None: unconditional.
        value_range: the images' intensities, by a scaled tanh.
        truncation: how much of a style's distance to the mean style (of its class) is kept, in [0, 1]: less gives more
            typical and less varied images. 1: all of it.

    Attributes:
        mean_style: (classes or 1, latent_dim), a buffer; `set_mean_style` computes it.
    """

    mean_style: Tensor

    def __init__(
        self,
        *,
        latent_dim: int,
        shape: Sequence[int],
        width: int = 16,
        num_classes: int | None = None,
        value_range: Sequence[float] = (-1.0, 1.0),
        truncation: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= truncation <= 1:
            raise ConfigurationError(
                f"`truncation` must be in [0, 1], got {truncation!r}. 1 keeps all variety; 0.7 is usual."
            )
        channels, *spatial = shape
        dims, levels = len(spatial), halvings_of(spatial)
        widths = [width * min(8, 2**level) for level in range(levels, -1, -1)]
        self.latent_dim, self.num_classes, self.truncation = latent_dim, num_classes, truncation
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, latent_dim)
        sizes = [latent_dim * (1 if num_classes is None else 2), *[latent_dim] * _MAPPING_LAYERS]
        self.mapping = nn.ModuleList(EqualLinear(a, b, rate=_MAPPING_RATE) for a, b in itertools.pairwise(sizes))
        self.start = nn.Parameter(torch.randn(1, widths[0], *(size // 2**levels for size in spatial)))
        pairs = [(widths[0], widths[0]), *itertools.pairwise(widths)]
        self.convolutions = nn.ModuleList(_Modulated(dims, a, b, latent_dim, 3) for a, b in pairs)
        self.leave = nn.ModuleList(_Modulated(dims, each, channels, latent_dim, 1) for each in widths)
        self.register_buffer("mean_style", torch.zeros(num_classes or 1, latent_dim))
        self.low, self.high = value_range

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (batch, *shape) of latents (batch, latent_dim) and labels int64 (batch,)."""
        styles = self.styles(latents, labels)
        if self.truncation != 1:
            rows = torch.zeros(len(styles), dtype=torch.int64, device=styles.device) if labels is None else labels
            styles = torch.lerp(self.mean_style[rows], styles, self.truncation)
        return self.images(styles[:, None].expand(-1, len(self.convolutions), -1))

    def styles(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Styles (batch, latent_dim) of latents."""
        features = pixel_norm(latents)
        if self.embedding is not None:
            if labels is None:
                raise ConfigurationError("`labels` must be given to a generator with classes, got None.")
            features = torch.cat([features, pixel_norm(self.embedding(labels))], 1)
        for layer in self.mapping:
            features = activated(layer(features))
        return features

    def images(self, styles: Tensor) -> Tensor:
        """Images of one style per layer: (batch, layers, latent_dim), one layer per resolution."""
        features = self.start.expand(len(styles), *self.start.shape[1:])
        image: Tensor | None = None
        for number, (layer, leave) in enumerate(zip(self.convolutions, self.leave, strict=True)):
            features = activated(layer(doubled(features) if number else features, styles[:, number]))
            own = leave(features, styles[:, number])
            image = own if image is None else doubled(image) + own
        return to_intensities(torch.tanh(image), self.low, self.high)  # type: ignore[arg-type]  # at least one layer

    @torch.no_grad()
    def set_mean_style(self, count: int = 4096) -> None:
        """Sets `mean_style` to the mean over `count` latents, the same at each call."""
        noise = torch.randn((count, self.latent_dim), generator=torch.Generator().manual_seed(0))
        noise = noise.to(self.start)
        for row in range(len(self.mean_style)):
            label = None if self.num_classes is None else torch.full((count,), row, device=noise.device)
            self.mean_style[row] = self.styles(noise, label).mean(0)


class _Modulated(nn.Module):
    """A convolution whose input channels are scaled by a style; of size 3 also demodulated (Karras, 2020, eq. 1-3)."""

    def __init__(self, dims: int, before: int, after: int, style: int, kernel: int) -> None:
        super().__init__()
        self.style = EqualLinear(style, before, bias=1.0)
        self.weight = nn.Parameter(torch.randn(after, before, *[kernel] * dims))
        self.bias = nn.Parameter(torch.zeros(after))
        self.scale, self.dims, self.demodulated = 1 / math.sqrt(before * kernel**dims), dims, kernel > 1

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        # Scaling what goes in and comes out equals scaling the weights, and needs no convolution of its own per image.
        ones = [1] * self.dims
        factors, weight = self.style(style), self.weight * self.scale
        features = CONVOLVE[self.dims](features * factors.view(*factors.shape, *ones), weight, padding="same")
        if self.demodulated:
            sizes = (factors.square() @ weight.square().flatten(2).sum(2).T + 1e-8).rsqrt()
            features = features * sizes.view(*sizes.shape, *ones)
        return features + self.bias.view(-1, *ones)


class StyleGAN2Critic(nn.Module):
    """Images → scores, higher for real ones.

    Args:
        shape: (channels, *spatial) of an image.
        width: as of the generator.
        num_classes: classes of the images, by projection (Miyato and Koyama, 2018); None: unconditional.
    """

    def __init__(self, *, shape: Sequence[int], width: int = 16, num_classes: int | None = None) -> None:
        super().__init__()
        channels, *spatial = shape
        dims, levels = len(spatial), halvings_of(spatial)
        widths = [width * min(8, 2**level) for level in range(levels + 1)]
        self.enter = EqualConv(dims, channels, widths[0], 1)
        self.blocks = nn.ModuleList(_Residual(dims, a, b) for a, b in itertools.pairwise(widths))
        self.last = EqualConv(dims, widths[-1] + 1, widths[-1], 3)
        places = math.prod(size // 2**levels for size in spatial)
        self.join = nn.Sequential(nn.Flatten(), EqualLinear(widths[-1] * places, widths[-1]))
        self.score = EqualLinear(widths[-1], 1)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, widths[-1])

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Scores (batch,) of images (batch, *shape) and labels int64 (batch,)."""
        features = activated(self.enter(images))
        for block in self.blocks:
            features = block(features)
        features = activated(self.join(activated(self.last(batch_spread(features)))))
        scores: Tensor = self.score(features)[:, 0]
        if self.embedding is not None:
            if labels is None:
                raise ConfigurationError("`labels` must be given to a critic with classes, got None.")
            scores = scores + (self.embedding(labels) * features).sum(1) / math.sqrt(features.shape[1])
        return scores


class _Residual(nn.Module):
    def __init__(self, dims: int, before: int, after: int) -> None:
        super().__init__()
        self.one, self.two = EqualConv(dims, before, before, 3), EqualConv(dims, before, after, 3)
        self.skip = EqualConv(dims, before, after, 1)

    def forward(self, features: Tensor) -> Tensor:
        changed = halved(activated(self.two(activated(self.one(features)))))
        kept: Tensor = self.skip(halved(features))
        return (changed + kept) / math.sqrt(2)
