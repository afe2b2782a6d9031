"""Bringing images and masks to one size: proportions kept, antialiased, centred."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError

MULTIPLE = 8
"""Sizes that every family can halve often enough are multiples of this."""

_THICK, _THIN = 3.0, 4


def target_size(spatial: Sequence[int], size: int | Sequence[int] | None) -> tuple[int, ...]:
    """The spatial size that images of size `spatial` are brought to.

    Args:
        spatial: of an image as it was read.
        size: one number for a square or a cube, or one per axis; None: `spatial`, each rounded up to a multiple of 8.

    Raises:
        ConfigurationError: a size below 1, or of another number of axes.
    """
    if size is None:
        return tuple(math.ceil(each / MULTIPLE) * MULTIPLE for each in spatial)
    wanted = (size,) * len(spatial) if isinstance(size, int) else tuple(size)
    if len(wanted) != len(spatial) or any(each < 1 for each in wanted):
        raise ConfigurationError(
            f"`size` must be one positive number, or {len(spatial)} of them for images of {tuple(spatial)}, got "
            f"{size!r}. For example size={max(MULTIPLE, *target_size(spatial, None))}."
        )
    return wanted


def thick_axes(spatial: Sequence[int], spacing_mm: Sequence[float] | None) -> tuple[int, ...]:
    """The axes of a volume along which slices are thick: few pixels, far apart.

    Scaled by the same factor as the others, such an axis would fill a part of a cube only, and the rest would be
    padding. Thick is what lies 3 times as far apart as the closest axis (the limit of nnU-Net, Isensee et al. 2021,
    doi:10.1038/s41592-020-01008-z), or, where no spacing is known, an axis with less than a quarter of the pixels of
    the longest one.

    Args:
        spatial: size of the volume; pictures have no such axis.
        spacing_mm: of its axes; None: unknown.
    """
    if len(spatial) < 3:
        return ()
    if spacing_mm is not None and len(spacing_mm) == len(spatial):
        return tuple(axis for axis, each in enumerate(spacing_mm) if each >= _THICK * min(spacing_mm))
    return tuple(axis for axis, each in enumerate(spatial) if each * _THIN < max(spatial))


def fit_image(image: Tensor, size: Sequence[int], stretched: Sequence[int] = ()) -> Tensor:
    """The image scaled to fit into `size` and centred there; what is missing gets the median of the image's border.

    Args:
        image: (channels, *spatial) float32, 2D or 3D.
        size: spatial size of the result.
        stretched: axes that are scaled on their own, to fill the size; the others keep their proportions.
    """
    inner = _inner_size(image.shape[1:], size, stretched)
    return _centre(_scale(image, inner), size, _border_median(image))


def fit_mask(mask: Tensor, size: Sequence[int], stretched: Sequence[int] = ()) -> Tensor:
    """The same for a mask (1, *spatial): nearest neighbour, 0 outside."""
    inner = _inner_size(mask.shape[1:], size, stretched)
    if inner != tuple(mask.shape[1:]):
        # float64 holds every class exactly; the resampling copies values.
        mask = nn.functional.interpolate(mask[None].double(), inner, mode="nearest-exact")[0].to(mask.dtype)
    return _centre(mask, size, torch.zeros(1, dtype=mask.dtype))


def fit_affine(spatial: Sequence[int], size: Sequence[int], stretched: Sequence[int] = ()) -> npt.NDArray[np.float64]:
    """(4, 4) from voxel indices of what `fit_image` returns to those of the image that it was given.

    Multiplied from the left by the affine of the image, it is the affine of the result.

    Args:
        spatial: size of the image, two or three axes.
        size: as in `fit_image`.
        stretched: as in `fit_image`.
    """
    matrix = np.eye(4)
    for axis, (have, wanted, inner) in enumerate(
        zip(spatial, size, _inner_size(spatial, size, stretched), strict=True)
    ):
        factor, first = have / inner, (wanted - inner) // 2
        # Edges coincide, not centres: pixel i begins at i - 0.5.
        matrix[axis, axis], matrix[axis, 3] = factor, factor * (0.5 - first) - 0.5
    return matrix


def only_pads(spatial: Sequence[int], size: Sequence[int]) -> bool:
    """Whether images of `spatial` keep their pixels."""
    return _inner_size(spatial, size) == tuple(spatial)


def _inner_size(spatial: Sequence[int], size: Sequence[int], stretched: Sequence[int] = ()) -> tuple[int, ...]:
    """What `spatial` becomes, scaled by one factor to fill `size` along one axis at least; `stretched` axes fill it."""
    if stretched:
        kept = [axis for axis in range(len(spatial)) if axis not in stretched]
        inner = list(size)
        for axis, each in zip(kept, _inner_size([spatial[k] for k in kept], [size[k] for k in kept]), strict=True):
            inner[axis] = each
        return tuple(inner)
    if all(0 <= wanted - each < MULTIPLE for wanted, each in zip(size, spatial, strict=True)):
        return tuple(spatial)  # A few pixels are added, not interpolated: 28 stays 28 in 32.
    factor = min(wanted / each for wanted, each in zip(size, spatial, strict=True))
    return tuple(min(max(1, round(each * factor)), wanted) for each, wanted in zip(spatial, size, strict=True))


def _scale(image: Tensor, inner: tuple[int, ...]) -> Tensor:
    if inner == tuple(image.shape[1:]):
        return image
    # torch antialiases two axes at a time, so a volume takes two turns: (z, y, x) in the last two axes, then in (z, y).
    if image.ndim == 4:
        image = _scale_plane(image, inner[1:])
        return _scale_plane(image.transpose(1, 2), (inner[0], inner[2])).transpose(1, 2).contiguous()
    return _scale_plane(image[None], inner)[0]


def _scale_plane(images: Tensor, size: Sequence[int]) -> Tensor:
    return nn.functional.interpolate(images, tuple(size), mode="bilinear", antialias=True, align_corners=False)


def _centre(values: Tensor, size: Sequence[int], fill: Tensor) -> Tensor:
    if tuple(values.shape[1:]) == tuple(size):
        return values
    framed = fill.reshape(-1, *[1] * len(size)).expand(len(values), *size).clone()
    first = [(wanted - have) // 2 for wanted, have in zip(size, values.shape[1:], strict=True)]
    window = tuple(slice(start, start + have) for start, have in zip(first, values.shape[1:], strict=True))
    framed[(slice(None), *window)] = values
    return framed


def _border_median(image: Tensor) -> Tensor:
    """(channels,) the median of the outermost pixels: black around a head, white around tissue on a slide."""
    edges = [image.movedim(axis, 1)[:, [0, -1]].flatten(1) for axis in range(1, image.ndim)]
    return torch.cat(edges, 1).median(1).values
