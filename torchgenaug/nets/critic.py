"""Critic of a small GAN: images and volumes → one score each, by class where there are classes.

The discriminator of Radford, Metz, Chintala (2016) without BatchNorm, which gradient penalties forbid (Gulrajani et
al., 2017, section 4); classes by projection (Miyato and Koyama, 2018, "cGANs with projection discriminator", eq. 3) or
by an auxiliary classifier (Odena, Olah, Shlens, 2017). Its options are variety within the batch as further features
(`batch_features`), `SelfAttention`, and spectral normalisation (Miyato, Kataoka, Koyama, Yoshida, 2018, "Spectral
normalization for generative adversarial networks", algorithm 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.batch_features import BatchDiscrimination, batch_spread
from torchgenaug.nets.gan import halvings_of
from torchgenaug.nets.self_attention import SelfAttention, attended_level

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}


class Critic(nn.Module):
    """Images → scores, higher for real ones.

    Args:
        shape: (channels, *spatial) of an image, 2D or 3D.
        width: half the channels of the first layer, which halves the image; each layer after it halves the image and
            has twice as many, up to 8 · `width`.
        num_classes: classes of the images; None: unconditional.
        auxiliary: predict the class with an auxiliary classifier instead of taking it as an input; needs `num_classes`.
        batch_spread: let the critic see how much the images of a batch differ. Its score of an image then depends on
            the others of the batch: not for penalties on the gradient of single images.
        batch_discrimination: let it see for each image how near the others of the batch are; likewise.
        attention: let places of a small enough layer see each other.
        spectral: divide all weights by their largest singular value.
        smooth: blur before each halving, see `Blur`.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 32,
        num_classes: int | None = None,
        auxiliary: bool = False,
        batch_spread: bool = False,
        batch_discrimination: bool = False,
        attention: bool = False,
        spectral: bool = False,
        smooth: bool = False,
    ) -> None:
        super().__init__()
        channels, *spatial = shape
        count = halvings_of(spatial)
        convolution = _CONVOLUTIONS[len(spatial)]
        if auxiliary and num_classes is None:
            raise ConfigurationError("`num_classes` must be given with auxiliary=True, got None.")
        widths = [channels, *(width * min(8, 2**level) for level in range(1, count + 1))]
        layers: list[nn.Module] = []
        attended = attended_level(spatial, count) if attention else None
        for level, (before, after) in enumerate(itertools.pairwise(widths), 1):
            layers += [Blur()] if smooth else []
            layers += [convolution(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            layers += [SelfAttention(len(spatial), after)] if level == attended else []
        self.layers = nn.Sequential(*layers)
        self.batch_spread = batch_spread
        places = math.prod(size // 2**count for size in spatial)
        features = widths[-1]
        self.join = nn.Sequential(
            nn.Flatten(), nn.Linear(places * (features + int(batch_spread)), features), nn.LeakyReLU(0.2)
        )
        self.compare = BatchDiscrimination(features) if batch_discrimination else None
        features = self.compare.length if self.compare is not None else features
        self.score = nn.Linear(features, 1)
        self.classify = nn.Linear(features, num_classes or 1) if auxiliary else None
        self.embedding = None if num_classes is None or auxiliary else nn.Embedding(num_classes, features)
        for layer in [*self.modules()] if spectral else ():
            if isinstance(layer, convolution | nn.Linear):
                nn.utils.parametrizations.spectral_norm(layer)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Scores (batch,), and with `auxiliary` the unnormalised class scores (batch, classes).

        Args:
            images: (batch, *shape).
            labels: int64 (batch,), for a critic that takes classes as an input.
        """
        features = self.layers(images)
        if self.batch_spread:
            features = batch_spread(features)
        features = self.join(features)
        if self.compare is not None:
            features = self.compare(features)
        scores: Tensor = self.score(features)[:, 0]
        if self.embedding is not None:
            if labels is None:
                raise ConfigurationError("`labels` must be given to a critic with classes, got None.")
            scores = scores + (self.embedding(labels) * features).sum(1) / math.sqrt(features.shape[1])
        return scores, None if self.classify is None else self.classify(features)


class Blur(nn.Module):
    """A binomial filter (1, 2, 1) / 4 along each spatial axis; the border is repeated.

    A convolution of stride 2 sees even and odd places through weights of their own, and its gradient is as strong in
    patterns of period two as in any other. The filter has no response at that frequency: Zhang (2019), "Making
    convolutional networks shift-invariant again", section 3.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(batch, channels, *spatial) → the same shape."""
        for axis in range(2, features.ndim):
            size = features.shape[axis]
            before, after = (
                torch.cat([features.narrow(axis, start, 1), features.narrow(axis, first, size - 1)][::step], axis)
                for start, first, step in ((0, 0, 1), (size - 1, 1, -1))
            )
            features = (before + 2 * features + after) / 4
        return features
