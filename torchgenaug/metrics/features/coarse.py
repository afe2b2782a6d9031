"""Features of averaged images: what is where, without fine detail."""

from __future__ import annotations

import hashlib

from torch import Tensor
from torch.nn import functional

from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.features.contract import Features

_SMALLEST = 8  # pixels that stay along each axis: below, texture has no meaning


def coarse_name(name: str, width: int = 4) -> str:
    """Name of the features `name` on images averaged over `width` pixels."""
    return f"{name} at 1/{width}"


class CoarseFeatures:
    """Features of images that were averaged over squares (cubes) of pixels: of structure, not of fine detail.

    Real images that are alike in their noise and sharpness, as those of one scanner or one template are, lie so close
    together in features of texture that a slight blur puts every synthetic image outside of them. Averaged images show
    whether anatomy is right all the same.

    Args:
        features: the map to apply, for example `RadiomicsFeatures`.
        width: pixels along each axis that become one; fewer where less than 8 pixels would remain.

    Raises:
        ConfigurationError: a `width` below 2.

    Example:
        >>> import torch
        >>> from torchgenaug.metrics import RadiomicsFeatures
        >>> features = CoarseFeatures(RadiomicsFeatures())
        >>> features.name, features(torch.rand(2, 1, 64, 64)).shape
        ('radiomics-like at 1/4', torch.Size([2, 31]))
    """

    def __init__(self, features: Features, *, width: int = 4) -> None:
        if isinstance(width, bool) or not isinstance(width, int) or width < 2:
            raise ConfigurationError(f"`width` must be an integer of at least 2, got {width!r}. For example width=4.")
        self._features, self._width = features, width
        self.name = coarse_name(features.name, width)
        self.standardize = features.standardize
        self.sha256 = hashlib.sha256(f"{features.sha256} averaged {width}".encode()).hexdigest()

    def __call__(self, images: Tensor) -> Tensor:
        """(batch, channels, *spatial) in [0, 1], 2D or 3D → (batch, features)."""
        pool = functional.avg_pool2d if images.ndim == 4 else functional.avg_pool3d
        return self._features(pool(images, [max(1, min(self._width, side // _SMALLEST)) for side in images.shape[2:]]))
