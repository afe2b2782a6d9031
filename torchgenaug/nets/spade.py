"""SPADE generator: one-hot masks and latent vectors → images, with MONAI's residual blocks.

Park, Liu, Wang, Zhu (2019), "Semantic image synthesis with spatially-adaptive normalization", section 3: the latent
vector decides what the image looks like, the mask, at every resolution, where things are.

MONAI's own `SPADENet` takes no latent vector without its encoder, and makes its last, full-resolution layer from an
image of half the size; its blocks are used here, from 4 pixels to full resolution. Their modulation maps are not
normalised, as they are in MONAI's `SPADE`: that takes away which class fills the image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.errors import missing_extra
from torchgenaug.nets.gan import halvings_of
from torchgenaug.nets.intensities import to_intensities

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}


class SpadeGenerator(nn.Module):
    """Latent vectors and one-hot masks → images. Called ``(latents, mask)``.

    Args:
        latent_dim: length of a latent vector of standard normal numbers.
        mask_classes: channels of the one-hot mask.
        shape: (channels, *spatial) of an image, 2D or 3D; the mask has the same spatial size.
        width: channels at full resolution; each level below has twice as many, up to 8 · `width`.
        hidden: channels between mask and modulation in each block.
        value_range: the images' intensities, by a scaled tanh.

    Raises:
        MissingExtraError: MONAI is not installed.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        mask_classes: int,
        shape: Sequence[int],
        width: int = 16,
        hidden: int = 16,
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        try:
            from monai.networks.nets.spade_network import SPADENetResBlock
        except ImportError as error:
            raise missing_extra("The SPADE generator", package="monai", extra="monai") from error
        channels, *spatial = shape
        count = halvings_of(spatial)
        widths = [width * min(8, 2**level) for level in range(count, -1, -1)]
        self.start = [widths[0], *(size // 2**count for size in spatial)]
        self.project = nn.Linear(latent_dim, math.prod(self.start))
        pairs = [(widths[0], widths[0]), *itertools.pairwise(widths)]
        self.blocks = nn.ModuleList(
            SPADENetResBlock(len(spatial), before, after, mask_classes, spade_intermediate_channels=hidden)
            for before, after in pairs
        )
        for layer in self.blocks.modules():
            for name in ("mlp_gamma", "mlp_beta"):
                if hasattr(layer, name):
                    del getattr(layer, name).adn
        self.leave = _CONVOLUTIONS[len(spatial)](widths[-1], channels, 3, padding=1)
        self.low, self.high = value_range

    def forward(self, latents: Tensor, mask: Tensor) -> Tensor:
        """Images (batch, *shape) of latents (batch, latent_dim) and one-hot masks (batch, mask_classes, *spatial)."""
        features = self.project(latents).unflatten(1, self.start)
        for number, block in enumerate(self.blocks):
            if number:
                features = functional.interpolate(features, scale_factor=2)
            features = block(features, mask)
        # Not cut as a translator's: nothing but its critic would hold it within the range.
        images: Tensor = torch.tanh(self.leave(functional.leaky_relu(features, 0.2)))
        return to_intensities(images, self.low, self.high)
