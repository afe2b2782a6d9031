"""Generator of a small GAN for images and volumes of any size, with or without classes.

Radford, Metz, Chintala (2016), "Unsupervised representation learning with deep convolutional generative adversarial
networks", with up-sampling and convolution in place of strided transposed convolutions, which leave a checkerboard
(Odena, Dumoulin, Olah, 2016, "Deconvolution and checkerboard artifacts", Distill).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.intensities import to_intensities
from torchgenaug.nets.self_attention import SelfAttention, attended_level
from torchgenaug.nets.sizes import fitting_sizes, size_option

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_SMALLEST = 8  # side of an image


def halvings_of(spatial: Sequence[int], least: int = 1) -> int:
    """How often the sizes can be halved before the smallest is about 4.

    Args:
        spatial: sizes of an image.
        least: how often they must be halved in any case.

    Raises:
        ConfigurationError: not two or three sizes, sizes below 8, or sizes that cannot be halved that often.
    """
    if len(spatial) not in (2, 3):
        raise ConfigurationError(f"`shape` must be (channels, *spatial) with two or three sizes, got {tuple(spatial)}.")

    def count_of(sizes: Sequence[int]) -> int:
        return max(least, round(math.log2(min(sizes) / 4)))

    large = [max(_SMALLEST, size) for size in spatial]
    count, wanted = count_of(large), fitting_sizes(large, lambda sizes: 2 ** count_of(sizes))
    if tuple(spatial) != wanted:
        must = f"can be halved {count} times" if large == list(spatial) else f"are at least {_SMALLEST}"
        raise ConfigurationError(
            f"`shape` must hold sizes that {must}, got {tuple(spatial)}. Pad or resize the images to {wanted}: "
            f"{size_option(wanted)}"
        )
    return count


def enlarge(dims: int, *, smooth: bool) -> nn.Upsample:
    """Twice the spatial size, by repeating or by linear interpolation.

    A repeated voxel and a convolution of size 3 are a transposed convolution: even and odd places have weights of their
    own, and a pattern of period two costs nothing. Interpolation has no power at that frequency.
    """
    if not smooth:
        return nn.Upsample(scale_factor=2)
    return nn.Upsample(scale_factor=2, mode="bilinear" if dims == 2 else "trilinear", align_corners=False)


class DCGANGenerator(nn.Module):
    """Latent vectors (and classes) → images.

    Args:
        latent_dim: length of a latent vector of standard normal numbers.
        shape: (channels, *spatial) of an image, 2D or 3D.
        width: channels of the last hidden layer; each layer before has twice as many, up to 8 · `width`.
        num_classes: classes, each with a learned vector next to the latent one; None: unconditional.
        value_range: the images' intensities, by a scaled tanh.
        attention: let places of a small enough layer see each other: `SelfAttention`.
        smooth: interpolate linearly where features are enlarged, not by repeating them: see `enlarge`.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        shape: Sequence[int],
        width: int = 32,
        num_classes: int | None = None,
        value_range: Sequence[float] = (-1.0, 1.0),
        attention: bool = False,
        smooth: bool = False,
    ) -> None:
        super().__init__()
        channels, *spatial = shape
        count = halvings_of(spatial)
        convolution, norm = _CONVOLUTIONS[len(spatial)], _NORMS[len(spatial)]
        widths = [width * min(8, 2**level) for level in range(count, -1, -1)]
        self.start = [widths[0], *(size // 2**count for size in spatial)]
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, latent_dim)
        inputs = latent_dim * (1 if num_classes is None else 2)
        self.project = nn.Sequential(nn.Linear(inputs, math.prod(self.start)), nn.Unflatten(1, self.start))
        layers: list[nn.Module] = [norm(widths[0]), nn.ReLU()]
        attended = attended_level(spatial, count) if attention else None
        for level, (before, after) in zip(reversed(range(count)), itertools.pairwise(widths), strict=True):
            layers += [
                enlarge(len(spatial), smooth=smooth),
                convolution(before, after, 3, padding=1),
                norm(after),
                nn.ReLU(),
            ]
            layers += [SelfAttention(len(spatial), after)] if level == attended else []
        self.layers = nn.Sequential(*layers, convolution(widths[-1], channels, 3, padding=1), nn.Tanh())
        self.low, self.high = value_range

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (batch, *shape) of latents (batch, latent_dim) and labels int64 (batch,)."""
        if self.embedding is not None:
            if labels is None:
                raise ConfigurationError("`labels` must be given to a generator with classes, got None.")
            latents = torch.cat([latents, self.embedding(labels)], 1)
        images: Tensor = self.layers(self.project(latents))
        return to_intensities(images, self.low, self.high)
