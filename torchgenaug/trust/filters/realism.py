"""Rules that compare features of a sample with those of real images.

References:
    Kynkäänniemi, Karras, Laine, Lehtinen, Aila (2019). Improved precision and recall metric for assessing generative
        models. NeurIPS (realism score, equation 3).
    Naeem, Oh, Uh, Choi, Yoo (2020). Reliable fidelity and diversity metrics for generative models. ICML (density).
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.distances import nearest
from torchgenaug.metrics.features.contract import Features, ImageSequence, extract_features
from torchgenaug.trust.filters.rules import rule_digest
from torchgenaug.types import Batch


class _RealBalls:
    """Balls around the features of real images that reach to their k-th real neighbour."""

    kind = ""

    def __init__(
        self,
        features: Features,
        real: ImageSequence,
        *,
        field: str = "image",
        neighbours: int = 3,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if len(real) < 2:
            raise ConfigurationError(f"`real` must hold at least 2 images, got {len(real)}. Give more.")
        if not 1 <= neighbours < len(real):
            raise ConfigurationError(
                f"`neighbours` must be in [1, {len(real) - 1}], below the number of real images, got {neighbours!r}."
            )
        self.features, self.field, self.neighbours, self.value_range = features, field, neighbours, value_range
        vectors = extract_features(features, real, value_range=value_range)
        self._scale = vectors.std(0).clamp(min=1e-12) if features.standardize else torch.ones(vectors.shape[1])
        self._real = vectors / self._scale
        self._radii = nearest(self._real, self._real, neighbours, exclude_self=True).distances[:, -1]

    @property
    def fingerprint(self) -> str:
        """sha256 over features, real images and settings."""
        real = hashlib.sha256(self._real.numpy().tobytes()).hexdigest()
        settings = f"{self.field} {self.neighbours} {self.value_range}"
        return rule_digest(self.kind, self.features.sha256, real, settings)

    def _distances(self, batch: Batch) -> Tensor:
        images = batch[self.field].cpu()
        made = extract_features(self.features, images, value_range=self.value_range) / self._scale
        return torch.cdist(made.double(), self._real.double())


class Realism(_RealBalls):
    """Realism score: 1 and more inside the manifold of the real images.

    The largest ratio, over the real images, of the radius of their ball to the distance from their centre.

    Args:
        features: see `torchgenaug.metrics`.
        real: real images (n, channels, *spatial), or a sequence of them.
        field: the image.
        neighbours: which neighbour a ball reaches to.
        value_range: intensities that mean black and white.
    """

    kind = "realism"

    def __call__(self, batch: Batch) -> Tensor:
        """(n,) positive."""
        # The half of the balls with the larger radii is left out, as in the paper: outliers have large balls.
        usual = self._radii <= self._radii.median()
        distances = self._distances(batch)[:, usual].clamp(min=1e-9)
        return (self._radii[usual].double() / distances).amax(1).float()


class Density(_RealBalls):
    """Density: in how many balls of real images a sample lies, over the number of neighbours; 1 is typical.

    Args:
        features: see `torchgenaug.metrics`.
        real: real images (n, channels, *spatial), or a sequence of them.
        field: the image.
        neighbours: which neighbour a ball reaches to.
        value_range: intensities that mean black and white.
    """

    kind = "density"

    def __call__(self, batch: Batch) -> Tensor:
        """(n,) not negative."""
        return (self._distances(batch) <= self._radii.double()).float().sum(1) / self.neighbours
