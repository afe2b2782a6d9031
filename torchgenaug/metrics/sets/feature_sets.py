"""Features of a real and a synthetic set, extracted once and used by every measure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, FieldMismatchError, TooFewImagesError
from torchgenaug.metrics.features.contract import (
    Features,
    ImageSequence,
    extract_features,
    to_unit_range,
)
from torchgenaug.metrics.features.network import NetworkFeatures
from torchgenaug.metrics.resampling import largest_group, numbered, shuffled_rows
from torchgenaug.metrics.sets.degrade import Ceiling, degrade

_SMALLEST_SPREAD = 0.01  # of a feature, in units of its mean or 1


@dataclass(frozen=True, slots=True)
class FeatureSets:
    """Feature vectors of real, synthetic and degraded real images, with the name of the features.

    Attributes:
        real: (count, features) float32.
        synthetic: (others, features) float32.
        name: name of the features.
        sha256: their fingerprint.
        degraded: (half of count, features): of degraded real images; None: no ceiling.
        degraded_rows: (half of count,) which real images were degraded.
        real_groups: (count,) integers: real images of one patient share one; None: all are independent.
    """

    real: Tensor
    synthetic: Tensor
    name: str
    sha256: str | None = None
    degraded: Tensor | None = None
    degraded_rows: Tensor | None = None
    real_groups: Tensor | None = None

    @classmethod
    def extract(
        cls,
        features: Features,
        real: ImageSequence,
        synthetic: ImageSequence,
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        ceiling: Ceiling | None = "blur",
        real_groups: Sequence[Hashable] | None = None,
        batch_size: int = 64,
        seed: int = 0,
    ) -> FeatureSets:
        """Extracts the features of both sets and of a degraded half of the real one.

        Args:
            features: the map to apply, for example `RadiomicsFeatures`.
            real: (count, channels, *spatial), or anything with a length that gives (channels, *spatial) by index.
            synthetic: the same, of the same shape.
            value_range: intensities of both that mean black and white.
            ceiling: how real images are degraded for the upper reference value; None: not at all, which saves a third
                of the time.
            real_groups: which real images belong together, as slices of one patient do, one value per image. Without it
                both halves of the real data hold the same patients, and the floor comes out too good.
            batch_size: images in memory at a time.
            seed: decides which half is degraded, and the noise.

        Raises:
            EmptyDatasetError: a set without images.
            ConfigurationError: intensities outside `value_range`.
            FieldMismatchError: images of another shape, or features that are not finite vectors.
            TooFewImagesError: one real image, whose features have no spread.
        """
        _check_shapes(real, synthetic)
        groups = None if real_groups is None else torch.tensor(numbered(real_groups))
        if groups is not None and len(groups) != len(real):
            raise ConfigurationError(
                f"`real_groups` must hold one value per real image, {len(real)}, got {len(groups)}."
            )
        if features.standardize and 0 < len(real) < 2:
            raise TooFewImagesError(
                f"Features {features.name!r} are divided by their spread over the real images, got 1. Use at least 2."
            )
        vectors, others = (
            extract_features(features, each, value_range=value_range, batch_size=batch_size)
            for each in (real, synthetic)
        )
        # A histogram of images that are alike is rightly the same.
        if isinstance(features, NetworkFeatures) and len(vectors) > 1 and bool((vectors == vectors[0]).all()):
            raise FieldMismatchError(
                f"Features {features.name!r} must differ between images, got the same ones for all {len(vectors)} real "
                "images. No distance can be computed from them. Check the network's weights and its input range."
            )
        worse = rows = None
        half = (len(real) - largest_group(groups) + 1) // 2
        if ceiling is not None and half:
            rows = shuffled_rows(len(real), seed, groups=groups)[:half]
            degraded = _Degraded(real, rows.tolist(), ceiling, value_range, seed)
            worse = extract_features(features, degraded, value_range=value_range, batch_size=batch_size)
        if features.standardize:
            mean, spread = vectors.mean(0), vectors.std(0)
            # What is constant over the real images must count where synthetic ones differ, but not infinitely much.
            spread = spread.clamp(min=_SMALLEST_SPREAD * (1 + mean.abs()))
            vectors, others = (vectors - mean) / spread, (others - mean) / spread
            worse = None if worse is None else (worse - mean) / spread
        return cls(vectors, others, features.name, features.sha256, worse, rows, groups)

    def __post_init__(self) -> None:
        for name in ("real", "synthetic", "degraded"):
            vectors = getattr(self, name)
            if vectors is not None and not vectors.is_complex():
                kind = torch.promote_types(self.real.dtype, self.synthetic.dtype)
                kind = kind if kind.is_floating_point else torch.float32
                object.__setattr__(self, name, vectors.detach().to(kind))
        width = self.real.shape[1] if self.real.ndim == 2 else 0
        if (
            not width
            or self.synthetic.ndim != 2
            or width != self.synthetic.shape[1]
            or any(each.is_complex() for each in (self.real, self.synthetic))
        ):
            raise ConfigurationError(
                "`real` and `synthetic` must be (count, features) with as many features, real numbers, got "
                f"{tuple(self.real.shape)} and {tuple(self.synthetic.shape)}."
            )
        if not (self.real.isfinite().all() and self.synthetic.isfinite().all()):
            raise ConfigurationError(
                "`real` and `synthetic` must be finite, got NaN or infinity. No distance can be computed."
            )
        if self.real_groups is not None and self.real_groups.shape != self.real.shape[:1]:
            raise ConfigurationError(
                f"`real_groups` must hold one value per real image, got {tuple(self.real_groups.shape)} for "
                f"{len(self.real)} images."
            )


class _Degraded:
    """Degraded images of a sequence, one at a time, so that none depends on the batch it is in."""

    def __init__(
        self, images: ImageSequence, rows: list[int], kind: Ceiling, value_range: tuple[float, float], seed: int
    ) -> None:
        self._images, self._rows, self._kind = images, rows, kind
        self._value_range, self._seed = value_range, seed

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        low, high = self._value_range
        image = torch.as_tensor(self._images[self._rows[index]]).to(torch.float32)[None]
        degraded = degrade(to_unit_range(image, self._value_range), self._kind, seed=self._seed + self._rows[index])
        return degraded[0] * (high - low) + low


def _check_shapes(real: ImageSequence, synthetic: ImageSequence) -> None:
    if not len(real) or not len(synthetic):
        return  # `extract_features` names which
    shapes = [tuple(torch.as_tensor(each[0]).shape) for each in (real, synthetic)]
    if shapes[0] != shapes[1]:
        raise FieldMismatchError(
            f"`synthetic` must hold images of the real shape {shapes[0]}, got {shapes[1]}. Sizes and channels decide "
            f"the features. Bring them to it, for example with torchio.Resize({shapes[0][1:]}), or select the channels."
        )
