"""Descriptors of every image in a set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError
from torchgenaug.trust.copies.blocks import block_means
from torchgenaug.trust.copies.noise import noise_variance
from torchgenaug.trust.copies.spectrum import spectrum

_SIDE = {2: 32, 3: 24}
"""Images are averaged down to less than twice so many pixels along their longest axis: fast, and noise averages out."""

_THUMBNAIL = {2: 32, 3: 12}
"""Thumbnails are averaged down to so many pixels at most along their longest axis."""

_BATCH_VALUES = 1 << 22  # pixels of the averaged images that are described at once: about 150 MB while it lasts


class Images(Protocol):
    """Images by position: a tensor (n, channels, *spatial), or anything that gives (channels, *spatial) by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Described:
    """Descriptors of a set of images.

    Attributes:
        spectra: (n, features), see `spectrum`; stay under shifts, flips, turns and gain.
        tapered: (n, features), the spectra of tapered images; stay under small rotations and changes of scale.
        blocks: (n, *blocks), see `block_means`; stay under noise, blur and small changes of scale.
        thumbnails: (n, *pixels) float16 of unit contrast, see `Registration`.
        noise: (n,) variance of white noise in a thumbnail.
        constant: (n,) bool: images of one value, which resemble nothing.
        shape: (channels, *spatial) of the images.
    """

    spectra: Tensor
    tapered: Tensor
    blocks: Tensor
    thumbnails: Tensor
    noise: Tensor
    constant: Tensor
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.spectra)

    def rows(self, index: Tensor) -> Described:
        """The descriptors of some of the images."""
        return Described(
            self.spectra[index],
            self.tapered[index],
            self.blocks[index],
            self.thumbnails[index],
            self.noise[index],
            self.constant[index],
            self.shape,
        )

    def joined(self, other: Described) -> Described:
        """The descriptors of both sets, of images of one shape."""
        return Described(
            torch.cat([self.spectra, other.spectra]),
            torch.cat([self.tapered, other.tapered]),
            torch.cat([self.blocks, other.blocks]),
            torch.cat([self.thumbnails, other.thumbnails]),
            torch.cat([self.noise, other.noise]),
            torch.cat([self.constant, other.constant]),
            self.shape,
        )


def describe(images: Images, *, name: str = "images") -> Described:
    """Descriptors of a set of images, read in batches: memory is about 6.5 kB an image, whatever its size.

    Channels are averaged: two images that differ between channels only count as similar.

    Args:
        images: a tensor (count, channels, *spatial) with two or three spatial axes, a list of tensors or a data set of
            them. Any dtype and range of values.
        name: of the argument, for messages.

    Raises:
        EmptyDatasetError: no images.
        FieldMismatchError: images of several shapes, without channels, or with values that are not finite.
    """
    if not len(images):
        raise EmptyDatasetError(f"`{name}` must hold at least one image, got none. Check its path or split.")
    parts = []
    shape: tuple[int, ...] = ()
    for start, batch in _batches(images, name):
        shape = tuple(batch.shape[1:])
        values = batch.float().mean(1)
        bad = torch.nonzero(~values.flatten(1).isfinite().all(1)).flatten()
        if len(bad):
            raise FieldMismatchError(
                f"`{name}` must hold finite values, got NaN or Inf at index {start + int(bad[0])}. A similarity to it "
                "means nothing. Repair or leave out this image: torch.nan_to_num(image)."
            )
        spread = values.flatten(1).std(1) if values[0].numel() > 1 else torch.zeros(len(values))
        flat = spread <= 1e-6 * values.flatten(1).abs().amax(1).clamp(min=1e-30)
        longest, dims = max(shape[1:]), values.ndim - 1
        small = _of_unit_contrast(_averaged(values, max(1, longest // _SIDE[dims])), spread, flat)
        thumbnails = _of_unit_contrast(_averaged(values, -(-longest // _THUMBNAIL[dims])), spread, flat)
        described = spectrum(small), spectrum(small, taper=True), block_means(small)
        parts.append((*described, thumbnails.half(), noise_variance(thumbnails), flat))
    spectra, tapered, blocks, thumbnails, noise, constant = (torch.cat(each) for each in zip(*parts, strict=True))
    return Described(spectra, tapered, blocks, thumbnails, noise, constant, shape)


def _of_unit_contrast(values: Tensor, spread: Tensor, flat: Tensor) -> Tensor:
    """No descriptor depends on gain or offset."""
    each = (-1, *[1] * (values.ndim - 1))
    values = (values - values.flatten(1).mean(1).view(each)) / spread.clamp(min=1e-30).view(each)
    values[flat] = 0
    return values


def _averaged(values: Tensor, width: int) -> Tensor:
    """Means over squares of a whole number of pixels: unequal windows would not move along when an image is shifted."""
    dims = values.ndim - 1
    if width == 1:
        return values
    pool = functional.avg_pool2d if dims == 2 else functional.avg_pool3d
    return pool(values[:, None], [min(width, length) for length in values.shape[1:]])[:, 0]


def _batches(images: Images, name: str) -> Iterator[tuple[int, Tensor]]:
    count = len(images)
    first = torch.as_tensor(images[0])
    if first.ndim not in (3, 4):
        raise FieldMismatchError(
            f"`{name}` must be (channels, *spatial) each, with 2 or 3 spatial axes, got {tuple(first.shape)} at index "
            "0. Add the axis of channels: images[:, None]."
        )
    if first.is_complex():
        raise FieldMismatchError(f"`{name}` must be real, got {first.dtype} at index 0. Use their magnitude: abs().")
    width = max(1, max(first.shape[1:]) // _SIDE[first.ndim - 1])
    pixels = math.prod(max(1, length // width) for length in first.shape[1:])
    size = max(1, min(4096, _BATCH_VALUES // (pixels * 4), (1 << 26) // max(1, first.numel())))
    for start in range(0, count, size):
        if isinstance(images, Tensor):
            yield start, images[start : start + size].detach().cpu()
            continue
        group = [torch.as_tensor(images[row]).detach().cpu() for row in range(start, min(start + size, count))]
        for offset, image in enumerate(group):
            if image.shape != first.shape:
                raise FieldMismatchError(
                    f"`{name}` must be of one shape, got {tuple(image.shape)} at index {start + offset} after "
                    f"{tuple(first.shape)}. Resize or crop them first: torchgenaug reads folders with "
                    "load_data(folder, size=64)."
                )
        yield start, torch.stack(group)


def check_same_shape(one: Described, other: Described, names: tuple[str, str]) -> None:
    """Refuses two sets whose images have other shapes.

    Raises:
        FieldMismatchError: with the call that makes them alike.
    """
    if one.shape != other.shape:
        raise FieldMismatchError(
            f"`{names[0]}` and `{names[1]}` must have images of one shape, got {one.shape} and {other.shape}. Their "
            f"descriptors cannot be compared. Resize one of them: torch.nn.functional.interpolate({names[0]}, "
            f"size={other.shape[1:]}, mode='area')."
        )


def checked_alpha(value: float, name: str) -> float:
    """Returns a rate in (0, 0.5].

    Raises:
        ConfigurationError: outside.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 0.5:
        raise ConfigurationError(f"`{name}` must be a number in (0, 0.5], got {value!r}. For example {name}=0.01.")
    return float(value)
