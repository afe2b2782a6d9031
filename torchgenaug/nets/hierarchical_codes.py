"""`HierarchicalCodes` and `HierarchicalSampler`: VQ-VAE 2, two levels of codes and their priors, in 2D and 3D.

Razavi, van den Oord, Vinyals (2019), "Generating diverse high-fidelity images with VQ-VAE-2": the upper codes say what
the whole looks like, the lower ones, conditioned on them, the detail. The code books are MONAI's `EMAQuantizer`, whose
unused codes begin again as outputs of the encoder (Dhariwal et al., 2020, "Jukebox: a generative model for music",
section 3.1): without that, all of an image had one code from the first step on. The priors are `CodePrior`s without
the paper's self-attention, which small grids do without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import missing_extra
from torchgenaug.nets.code_prior import CodePrior
from torchgenaug.nets.intensities import to_intensities

_LAYERS: Any = {2: nn.Conv2d, 3: nn.Conv3d}
LOWER, UPPER = 4, 8
"""How much smaller than the image the grids of lower and upper codes are, along each axis."""
_UNUSED = 0.3  # of the mean use of a code; with 0.05 codes came into use three times later


class HierarchicalCodes(nn.Module):
    """The autoencoder: images (batch, *shape) in [-1, 1] to two grids of codes and back.

    Args:
        shape: (channels, *spatial), sizes that can be divided by 8.
        width: channels of the widest-resolution layers.
        num_codes: size of each code book.
        code_dim: length of a code.

    Raises:
        MissingExtraError: MONAI is not installed.
    """

    def __init__(self, shape: Sequence[int], width: int = 32, num_codes: int = 128, code_dim: int = 16) -> None:
        super().__init__()
        try:
            from monai.networks.layers.vector_quantizer import EMAQuantizer
        except ImportError as error:
            raise missing_extra("HierarchicalCodes", package="monai", extra="monai") from error
        channels, *spatial = shape
        layer, dims = _LAYERS[len(spatial)], len(spatial)

        def halve(inside: int, outside: int) -> nn.Module:
            made: nn.Module = layer(inside, outside, 4, stride=2, padding=1)
            return made

        def double(inside: int, outside: int) -> nn.Module:
            return nn.Sequential(nn.Upsample(scale_factor=2), layer(inside, outside, 3, padding=1), nn.ReLU())

        self.down = nn.Sequential(
            halve(channels, width), nn.ReLU(), halve(width, 2 * width), nn.ReLU(), _Residual(layer, 2 * width)
        )
        self.down_again = nn.Sequential(
            halve(2 * width, 2 * width), nn.ReLU(), _Residual(layer, 2 * width), layer(2 * width, code_dim, 1)
        )
        self.upper, self.lower = (EMAQuantizer(dims, num_codes, code_dim) for _ in range(2))
        self.up_first = double(code_dim, 2 * width)
        self.join = layer(4 * width, code_dim, 1)
        self.up = nn.Sequential(
            layer(2 * code_dim, 2 * width, 3, padding=1),
            nn.ReLU(),
            _Residual(layer, 2 * width),
            double(2 * width, width),
            double(width, width),
            layer(width, channels, 3, padding=1),
        )
        self.spread = nn.Upsample(scale_factor=2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Rebuilt images, the commitment loss, and (upper, lower) codes (batch, *grid) int64."""
        below = self.down(images)
        upper, upper_loss, upper_codes = self._quantized(self.upper, self.down_again(below))
        lower, lower_loss, lower_codes = self._quantized(
            self.lower, self.join(torch.cat([below, self.up_first(upper)], 1))
        )
        rebuilt = self.up(torch.cat([lower, self.spread(upper)], 1))
        return rebuilt, upper_loss + lower_loss, (upper_codes, lower_codes)

    def _quantized(self, book: Any, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.training:
            renew_unused(book, values.detach())
        made: tuple[Tensor, Tensor, Tensor] = book(values)
        return made

    def decode(self, upper: Tensor, lower: Tensor) -> Tensor:
        """Images of both grids of codes (batch, *grid) int64."""
        return self.up(torch.cat([self.lower.embed(lower), self.maps(upper)], 1))  # type: ignore[no-any-return]

    def maps(self, upper: Tensor) -> Tensor:
        """What the prior of the lower codes is conditioned on: the upper ones, as large as their grid."""
        return self.spread(self.upper.embed(upper))  # type: ignore[no-any-return]


class HierarchicalSampler(nn.Module):
    """Standard normal latents (batch, codes) (and labels) → images.

    Args:
        shape: of an image.
        width: see `HierarchicalCodes`; the priors have twice as many channels.
        num_codes: likewise.
        code_dim: likewise.
        num_classes: classes of the upper codes' prior; None for none.
        classes_below: whether the prior of the lower codes is given the class, too: four upper codes of a small image
            do not hold all of it.
        value_range: the images' intensities.

    Attributes:
        latent_shape: (codes,): one number decides one code, those of the upper grid first.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 32,
        num_codes: int = 128,
        code_dim: int = 16,
        num_classes: int | None = None,
        classes_below: bool = False,
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        spatial = [int(size) for size in shape[1:]]
        self.autoencoder = HierarchicalCodes(shape, width, num_codes, code_dim)
        self.upper_prior = CodePrior(len(spatial), num_codes, 2 * width, num_classes=num_classes)
        self.classes_below = classes_below
        below = num_classes if classes_below else None
        self.lower_prior = CodePrior(len(spatial), num_codes, 2 * width, given=code_dim, num_classes=below)
        self.grids = [[size // factor for size in spatial] for factor in (UPPER, LOWER)]
        self.latent_shape = (sum(math.prod(grid) for grid in self.grids),)
        self.low, self.high = value_range

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (batch, *shape) in `value_range`."""
        uniform = torch.special.ndtr(latents.float())
        above, below = uniform.split([math.prod(grid) for grid in self.grids], 1)
        upper = self.upper_prior.draw(above, self.grids[0], labels=labels)
        given = labels if self.classes_below else None
        lower = self.lower_prior.draw(below, self.grids[1], self.autoencoder.maps(upper), given)
        return to_intensities(self.autoencoder.decode(upper, lower).clamp(-1, 1), self.low, self.high)


@torch.no_grad()
def renew_unused(book: Any, values: Tensor) -> None:
    """Codes that are used less than 0.3 times as often as the mean become random vectors of `values`.

    In the first call, that is all of them. A new code has some 120 steps to come into use.

    Args:
        book: an `EMAQuantizer`.
        values: (batch, length of a code, *grid), what is quantized next.
    """
    use = book.ema_cluster_size
    unused = use <= _UNUSED * use.mean()
    if not bool(unused.any()):
        return
    vectors = values.float().movedim(1, -1).flatten(0, -2)
    chosen = vectors[torch.randint(len(vectors), (int(unused.sum()),), device=vectors.device)]
    if torch.distributed.is_initialized():  # the code books of all processes are one
        torch.distributed.broadcast(chosen, 0)
    share = len(vectors) / len(use)
    book.embedding.weight[unused] = chosen
    book.ema_w[unused] = chosen * share
    use[unused] = share


class _Residual(nn.Module):
    def __init__(self, layer: Any, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(), layer(width, width, 3, padding=1), nn.ReLU(), layer(width, width, 1))

    def forward(self, values: Tensor) -> Tensor:
        made: Tensor = values + self.layers(values)
        return made
