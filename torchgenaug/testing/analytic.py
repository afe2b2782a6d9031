"""`AnalyticSynthesizer`: a synthesizer that needs no network, for tests and examples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from torchgenaug import seeding
from torchgenaug.types import Batch, FieldSpec


class AnalyticSynthesizer:
    """Bright ellipses on a dark, softly textured background, with their masks: exact, fast, and no network.

    Sample k is bit-equal in every batch. With ``num_classes`` the condition ``label`` (int64, one per sample) sets the
    number of ellipses (label + 1); without, it is drawn from the seed (1 to 3).

    Args:
        spatial: spatial shape, 2D or 3D.
        num_classes: number of classes that the condition ``label`` may take, or None for an unconditional synthesizer.
        channels: channels of the image.
        value_range: smallest and largest intensity.
    """

    def __init__(
        self,
        spatial: tuple[int, ...] = (32, 32),
        *,
        num_classes: int | None = None,
        channels: int = 1,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.spatial, self.num_classes, self.channels, self.value_range = spatial, num_classes, channels, value_range

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """``image``: (channels, *spatial) float32; ``mask``: (1, *spatial) int64, 1 inside an ellipse."""
        return {
            "image": FieldSpec((self.channels, *self.spatial), value_range=self.value_range),
            "mask": FieldSpec((1, *self.spatial), torch.int64, kind="label_map", value_range=(0, 1)),
        }

    @property
    def fingerprint(self) -> str:
        """sha256 over the settings."""
        settings = ("analytic", self.spatial, self.num_classes, self.channels, self.value_range)
        return hashlib.sha256(repr(settings).encode()).hexdigest()

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """See `torchgenaug.contracts.Synthesizer.synthesize`."""
        dims = len(self.spatial)
        draws = seeding.uniform(seeds, 3 * (2 * dims + 1) + 1)
        if conditions is not None and "label" in conditions and self.num_classes is not None:
            counts = conditions["label"].numpy() + 1
        else:
            counts = 1 + (draws[:, -1] * 3).astype(np.int64)
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in self.spatial), indexing="ij"))
        inside = np.zeros((len(seeds), *self.spatial), bool)
        bright = np.zeros(inside.shape)
        parameters = draws[:, :-1].reshape(len(seeds), 3, 2 * dims + 1)
        for k in range(max(1, int(counts.max()))):
            ellipse = parameters[:, k % 3]
            shape = (len(seeds), dims, *(1,) * dims)
            center = (0.6 * (2 * ellipse[:, :dims] - 1)).reshape(shape) * (1 if k < 3 else -1)
            radius = (0.15 + 0.25 * ellipse[:, dims : 2 * dims]).reshape(shape)
            hit = (((grid[None] - center) / radius) ** 2).sum(1) <= 1
            hit &= (counts > k).reshape(-1, *(1,) * dims)
            bright = np.where(hit, (0.5 + 0.4 * ellipse[:, -1]).reshape(-1, *(1,) * dims), bright)
            inside |= hit
        texture = 0.02 * seeding.normal(seeds, (self.channels, *self.spatial)).numpy()
        low, high = self.value_range
        image = np.clip(0.1 + bright[:, None] + texture, 0, 1) * (high - low) + low
        return {
            "image": torch.from_numpy(np.clip(image, low, high).astype(np.float32)),
            "mask": torch.from_numpy(inside[:, None].astype(np.int64)),
        }

    def __repr__(self) -> str:
        return f"AnalyticSynthesizer({self.spatial}, num_classes={self.num_classes})"
