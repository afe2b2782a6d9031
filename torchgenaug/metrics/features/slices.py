"""Features of volumes by a network for images: of slices along several axes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.metrics.features.contract import Features


class SliceFeatures:
    """Mean of 2D features over slices of a volume: "2.5D", as in NV-Generate's FID.

    Slices are equally spaced, the middle one if there is one only. The mean over the slices loses where along an axis
    something is: a model that puts slices into the wrong order is not found out.

    Args:
        features: for 2D images, for example `EfficientNetFeatures`.
        axes: spatial axes that slices are perpendicular to.
        slices: number of slices per axis.

    Raises:
        ConfigurationError: no axis, an axis outside 0..2 or twice, or no slice.
    """

    def __init__(self, features: Features, *, axes: Sequence[int] = (0, 1, 2), slices: int = 3) -> None:
        if not axes or len(set(axes)) < len(axes) or not set(axes) <= {0, 1, 2}:
            raise ConfigurationError(f"`axes` must be different ones of 0, 1 and 2, got {tuple(axes)}.")
        if slices < 1:
            raise ConfigurationError(f"`slices` must be at least 1, got {slices}.")
        self._features, self._axes, self._slices = features, tuple(axes), slices
        self.standardize = features.standardize
        self.name = f"{features.name}, {slices} slices of axes {', '.join(map(str, axes))}"
        self.sha256 = hashlib.sha256(f"{features.sha256} {self._axes} {slices}".encode()).hexdigest()

    def __call__(self, images: Tensor) -> Tensor:
        """(batch, channels, *three spatial axes) in [0, 1] → (batch, features).

        Raises:
            FieldMismatchError: no volumes, or fewer slices than wanted.
        """
        if images.ndim != 5 or min(images.shape[2 + axis] for axis in self._axes) < self._slices:
            raise FieldMismatchError(
                f"`images` must be volumes with at least {self._slices} slices along axes {self._axes}, got "
                f"{tuple(images.shape[1:])}. For 2D images use the features {self._features.name!r} themselves."
            )
        sums: Tensor | None = None
        for axis in self._axes:
            length = images.shape[2 + axis]
            for number in range(self._slices):
                vectors = self._features(images.select(2 + axis, int((number + 0.5) * length / self._slices)))
                sums = vectors if sums is None else sums + vectors
        if sums is None:  # no axis: refused at construction
            return torch.empty((len(images), 0))
        return sums / (len(self._axes) * self._slices)
