"""What turns images into feature vectors: the protocol, and the loop that applies it to a whole set."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError, IntensityMismatchWarning
from torchgenaug.types import finite_range

_LEAST_SHARE = 0.01  # of the value range: a few steps of 8 bit
_TOLERANCE = 0.1  # of the width of the value range: diffusion models overshoot it by a few per cent


@runtime_checkable
class Features(Protocol):
    """A named map from images to feature vectors. Must be deterministic.

    Attributes:
        name: what stands in a result, as in ``FID[name]``.
        sha256: fingerprint of everything that decides the features: weights, settings, version.
        standardize: whether each feature is divided by its spread over the real images before sets are compared. For
            features of different units.
    """

    @property
    def name(self) -> str:
        """Name of the features."""
        ...

    @property
    def sha256(self) -> str:
        """Fingerprint of the features: sha256 of their weights or of their definition."""
        ...

    @property
    def standardize(self) -> bool:
        """Whether their scales are arbitrary."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Maps images (batch, channels, *spatial), float32, value range scaled to [0, 1], to (batch, features)."""
        ...


class ImageSequence(Protocol):
    """Images by position: a tensor (count, channels, *spatial), a list of tensors, or a data set that reads files."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


def extract_features(
    features: Features,
    images: ImageSequence,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 64,
) -> Tensor:
    """Feature vectors of a set of images.

    Args:
        features: the map to apply.
        images: (count, channels, *spatial), or anything with a length that gives (channels, *spatial) by index.
        value_range: intensities that mean black and white; mapped to 0 and 1.
        batch_size: images in memory at a time.

    Returns:
        (count, features) float32 on the CPU.

    Raises:
        EmptyDatasetError: no images.
        ConfigurationError: intensities outside `value_range`, or not finite.
        FieldMismatchError: images of several shapes, or features that are not finite vectors.

    Warns:
        IntensityMismatchWarning: the images use less than 1 % of `value_range`.
    """
    rows: list[Tensor] = []
    smallest, largest = math.inf, -math.inf
    for start, batch in image_batches(images, value_range=value_range, batch_size=batch_size):
        smallest, largest = min(smallest, float(batch.min())), max(largest, float(batch.max()))
        try:
            with torch.inference_mode():
                vectors = features(to_unit_range(batch, value_range))
        except Exception as error:
            error.add_note(f"It was raised by features {features.name!r} for images of shape {tuple(batch.shape)}.")
            raise
        _check_vectors(vectors, features.name, len(batch), rows[0].shape[1] if rows else None)
        vectors = vectors.detach().to("cpu", torch.float32)
        bad = (~vectors.isfinite().all(1)).nonzero().flatten()
        if len(bad):
            raise FieldMismatchError(
                f"Features {features.name!r} are not finite for {len(bad)} of {len(batch)} images, the first at index "
                f"{start + int(bad[0])}. No distance can be computed from them. Check the network's weights and run "
                "it in float32."
            )
        rows.append(vectors)
    share = (largest - smallest) / (value_range[1] - value_range[0])
    if share < _LEAST_SHARE:
        warnings.warn(
            f"`images` lie in [{smallest:g}, {largest:g}], {share:.2%} of `value_range` {value_range}: features can "
            "hardly tell them apart. If they are not all one grey, pass the range that they were scaled to.",
            IntensityMismatchWarning,
            stacklevel=2,
        )
    return torch.cat(rows).clone()  # a tensor made in inference mode could not be used in training later


def _check_vectors(vectors: object, name: str, count: int, width: int | None) -> None:
    if not isinstance(vectors, Tensor) or vectors.is_complex() or vectors.is_meta:
        got = type(vectors).__name__ if not isinstance(vectors, Tensor) else f"{vectors.dtype} on {vectors.device}"
        raise FieldMismatchError(
            f"Features {name!r} must return a tensor of real numbers (images, features), got {got}. No distance can be "
            "computed from it. Select one tensor, or convert it: torch.as_tensor(vectors)."
        )
    if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] != (width or vectors.shape[1]):
        wanted = "(images, features)" if width is None else f"(images, {width}) as before"
        raise FieldMismatchError(
            f"Features {name!r} must return {wanted}, got {tuple(vectors.shape)} for {count} images. Pool or flatten "
            "what the network returns."
        )


def image_batches(
    images: ImageSequence, *, value_range: tuple[float, float], batch_size: int, rows: Sequence[int] | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Batches (position of the first image, float32 images), checked for shape, finiteness and range."""
    if finite_range(value_range) is None:
        raise ConfigurationError(f"`value_range` must be (low, high), finite, low < high, got {value_range}.")
    if batch_size < 1:
        raise ConfigurationError(f"`batch_size` must be at least 1, got {batch_size}.")
    rows = range(len(images)) if rows is None else rows
    if not len(rows):
        raise EmptyDatasetError("`images` must hold at least one image, got none.")
    shape: torch.Size | None = None
    for start in range(0, len(rows), batch_size):
        group = [torch.as_tensor(images[row]) for row in rows[start : start + batch_size]]
        for offset, image in enumerate(group):
            shape = image.shape if shape is None else shape
            if image.shape != shape or image.ndim not in (3, 4):
                raise FieldMismatchError(
                    f"`images` must all be (channels, *spatial) of one shape with 2 or 3 spatial axes, got "
                    f"{tuple(image.shape)} at index {rows[start + offset]} after {tuple(shape)}. Resize or crop them, "
                    "for example with torchio.CropOrPad."
                )
        batch = torch.stack(group).to(torch.float32)
        _check_range(batch, value_range, first=rows[start])
        yield start, batch


def to_unit_range(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Maps `value_range` to [0, 1]; what is outside stays outside."""
    low, high = value_range
    return (images - low) / (high - low)


def _check_range(batch: Tensor, value_range: tuple[float, float], *, first: int) -> None:
    low, high = value_range
    smallest, largest = float(batch.min()), float(batch.max())
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        raise ConfigurationError(
            f"`images` must be finite, got NaN or infinity in the batch from index {first} on. Remove these images, or "
            "generate them again."
        )
    slack = _TOLERANCE * (high - low)
    if smallest < low - slack or largest > high + slack:
        raise ConfigurationError(
            f"`value_range` must enclose the intensities, got {value_range} for images in [{smallest:g}, {largest:g}] "
            f"from index {first} on. Features of wrongly scaled images mean nothing. Pass value_range=({smallest:g}, "
            f"{largest:g}) if these images span the whole range, or rescale them, for example with "
            "torchio.RescaleIntensity."
        )
