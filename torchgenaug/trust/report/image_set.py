"""Images to be compared: read once where they fit into memory, and checked for shape, channels and range."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError
from torchgenaug.trust.copies.describe import Images
from torchgenaug.trust.leaks.real_images import images_or_view, names_of
from torchgenaug.types import finite_range

_IN_MEMORY = 1 << 29  # bytes of one set
_LOOKED_AT = 256  # images of which the range is taken
_SLACK, _NARROW, _HALF = 0.1, 0.01, 0.45  # of the width of the real range


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one set, by position.

    Attributes:
        images: (channels, *spatial) each.
        name: of the set, for messages.
        patients: one for each image; empty where unknown.
        stated_range: value range that the data set states; None where it states none.
        smallest: smallest intensity among evenly spaced images.
        largest: largest one.
        quarter_turns: counter-clockwise quarter turns that show a slice upright.
        labels: (n,) class of each image; None where unknown.
    """

    images: Images
    name: str
    patients: tuple[str, ...]
    stated_range: tuple[float, float] | None
    smallest: float
    largest: float
    quarter_turns: int = 0
    labels: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(cls, dataset: Any, name: str) -> ImageSet:
        """Reads a tensor (n, channels, *spatial) or a data set of samples with an image.

        Raises:
            EmptyDatasetError: no images.
            FieldMismatchError: images of several shapes, or without channels.
            ConfigurationError: no data set, or intensities that are not finite.
        """
        if isinstance(dataset, (str, bytes, os.PathLike)) or not hasattr(dataset, "__len__"):
            raise ConfigurationError(
                f"`{name}` must be a tensor of images or a data set with a length, got {dataset!r}. Nothing was "
                "compared. Read a folder first: torchgenaug.recipes.load_data(path)."
            )
        if not len(dataset):
            raise EmptyDatasetError(f"`{name}` must hold at least one image, got none. Check its path or split.")
        images = _in_memory(images_or_view(dataset), name)
        looked_at = [torch.as_tensor(images[row]).float() for row in spread(len(images), _LOOKED_AT)]
        _check_images(looked_at, name)
        # All where they are at hand; where each is read from a file, measures and copies check what they read.
        rows = range(len(images)) if isinstance(images, Tensor) else spread(len(images), _LOOKED_AT)
        _check_finite(images, rows, name)
        field = getattr(dataset, "fields", None)
        spec = field.get("image") if isinstance(field, Mapping) else None
        return cls(
            images,
            name,
            names_of(dataset, "patients"),
            None if spec is None else spec.value_range,
            min(float(image.min()) for image in looked_at),
            max(float(image.max()) for image in looked_at),
            int(getattr(dataset, "quarter_turns", 0)),
            _labels(dataset),
        )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, *spatial)."""
        return tuple(torch.as_tensor(self.images[0]).shape)

    def rows(self, most: int) -> list[int]:
        """At most `most` positions, evenly spread."""
        return spread(len(self), most)


class Rows:
    """Some images of a set."""

    def __init__(self, images: Images, rows: list[int]) -> None:
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        return torch.as_tensor(self._images[self._rows[index]])


def spread(total: int, most: int) -> list[int]:
    """At most `most` of the positions in ``range(total)``, evenly spread."""
    return list(range(total)) if total <= most else [(2 * k + 1) * total // (2 * most) for k in range(most)]


def check_alike(real: ImageSet, other: ImageSet) -> None:
    """Refuses sets whose images cannot be compared.

    Raises:
        FieldMismatchError: other numbers of channels or other sizes, with the call that makes them alike.
    """
    if real.shape[1:] != other.shape[1:]:
        size = real.shape[1:]
        option = size[0] if len(set(size)) == 1 else " ".join(map(str, size))
        raise FieldMismatchError(
            f"`{other.name}` must have images of size {size}, as `{real.name}` has, got {other.shape[1:]}. Measures "
            f"would compare sizes. Resize one of them: torch.nn.functional.interpolate(images, size={size}, "
            f"mode='area'), or read the folders with --size {option}."
        )
    if real.shape[0] != other.shape[0]:
        change = (
            "images.mean(1, keepdim=True)" if real.shape[0] == 1 else f"images[:, :1].expand(-1, {real.shape[0]}, ...)"
        )
        raise FieldMismatchError(
            f"`{other.name}` must have {real.shape[0]} channel(s), as `{real.name}` has, got {other.shape[0]}. "
            f"Measures would compare channels. Convert them: {change}, or save the files so."
        )


def common_range(real: ImageSet, others: Sequence[ImageSet], stated: tuple[float, float] | None) -> tuple[float, float]:
    """The intensities that mean black and white in all sets.

    Args:
        real: decides, by what it states or else by its smallest and largest intensity.
        others: checked against it.
        stated: by the user; None: taken from `real`.

    Raises:
        ConfigurationError: the real images hold a single intensity, or `stated` is no range.
        FieldMismatchError: another set is on another scale, with the transform that aligns it.
    """
    if stated is not None and finite_range(stated) is None:
        raise ConfigurationError(
            f"`value_range` must be two finite numbers, low < high, got {stated!r}. Pass value_range=(0.0, 1.0)."
        )
    low, high = stated or real.stated_range or (real.smallest, real.largest)
    if not high > low:
        raise ConfigurationError(
            f"`real` must hold more than one intensity, got {low:g} alone. Nothing can be compared with it. Check how "
            "the images are read, or pass value_range=(0, 1)."
        )
    for each in others:
        _check_scale(each, real, (low, high), stated)
    return low, high


def _check_scale(
    other: ImageSet, real: ImageSet, limits: tuple[float, float], stated: tuple[float, float] | None
) -> None:
    low, high = limits
    width, spread_of = high - low, other.largest - other.smallest
    own = other.stated_range
    is_outside = other.smallest < low - _SLACK * width or other.largest > high + _SLACK * width
    is_narrow = 0 < spread_of < _NARROW * width
    # [0, 1] inside of [-1, 1]: nothing darker than the middle, where real images are black.
    is_upper_half = (
        stated is None
        and (own is None or max(abs(own[0] - low), abs(own[1] - high)) > _SLACK * width)
        and spread_of > 0
        and other.smallest >= low + _HALF * width
        and real.smallest < low + _SLACK * width
    )
    if is_outside or is_narrow or is_upper_half:
        first, last = own or (other.smallest, other.largest)
        factor = width / (last - first) if last > first else 1.0
        # Of a few images the smallest and the largest intensity may lie far inside of the scale.
        is_guess = stated is None and real.stated_range is None
        is_doubtful = is_guess or (is_upper_half and not is_outside)
        more = " If they are on one scale, state it: value_range=(low, high)." if is_doubtful else ""
        raise FieldMismatchError(
            f"`{other.name}` must be on the scale of the real images, [{low:g}, {high:g}], got [{other.smallest:g}, "
            f"{other.largest:g}]. Measures would compare scales. Rescale them: (images - {first:g}) * {factor:g} + "
            f"{low:g}, which is torchio.RescaleIntensity(({low:g}, {high:g}), in_min_max=({first:g}, {last:g})).{more}"
        )


def _labels(dataset: Any) -> npt.NDArray[np.int64] | None:
    """The class of every image, of data that state it without being read."""
    if isinstance(dataset, SyntheticSource):
        spec = dataset.fields.get("label")
        known = spec is not None and spec.kind == "scalar" and not spec.dtype.is_floating_point
        return dataset.column("label").numpy().astype(np.int64) if known else None
    labels = getattr(dataset, "labels", None)
    labels = labels() if callable(labels) else labels
    if labels is None or len(labels) != len(dataset):
        return None
    array = np.asarray(labels)
    return array.astype(np.int64) if array.ndim == 1 and array.dtype.kind in "iu" else None


def _check_images(images: list[Tensor], name: str) -> None:
    if images[0].ndim not in (3, 4):
        raise FieldMismatchError(
            f"`{name}` must hold images (channels, *spatial) with 2 or 3 spatial axes, got {tuple(images[0].shape)}. "
            "Which axis holds the channels decides the features. Add it: images[:, None]."
        )


def _check_finite(images: Images, rows: Sequence[int], name: str) -> None:
    for row in rows:
        if not bool(torch.as_tensor(images[row]).isfinite().all()):
            raise ConfigurationError(
                f"`{name}` must hold finite intensities, got NaN or infinity at index {row}. No measure of it means "
                "anything. Leave such images out, or repair them: torch.nan_to_num(images)."
            )


def _in_memory(images: Images, name: str) -> Images:
    """All images as one tensor where they are small: every measure reads them anew."""
    if isinstance(images, Tensor):
        return images
    first = torch.as_tensor(images[0])
    if len(images) * first.numel() * first.element_size() > _IN_MEMORY:
        return images
    stack = torch.empty((len(images), *first.shape), dtype=first.dtype)
    for row in range(len(images)):
        image = torch.as_tensor(images[row])
        if image.shape != first.shape:
            raise FieldMismatchError(
                f"`{name}` must hold images of one shape, got {tuple(image.shape)} at index {row} after "
                f"{tuple(first.shape)}. Resize or crop them, for example with torchio.CropOrPad."
            )
        stack[row] = image
    return stack
