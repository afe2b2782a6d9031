"""Regions: round ones with an uneven border, and real ones in another place, size and shape; all from given numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_CELLS = 4  # of the coarse grid of a border, per axis
_RADII = (0.1, 0.25)  # of the side
_UNEVEN = 0.35  # of the radius
_BEND = 0.12  # of the side of the region
_SIZES = (0.7, 1.3)
_MODES = {2: "bilinear", 3: "trilinear"}


def numbers_of_round(dims: int) -> int:
    """How many numbers `round_regions` takes for one region."""
    return int(2 * dims + _CELLS**dims)


def round_regions(numbers: Tensor, spatial: Sequence[int]) -> Tensor:
    """One blob in each image, bool (batch, 1, *spatial), never empty.

    Args:
        numbers: (batch, `numbers_of_round`) uniform in [0, 1): centre, radii, border.
        spatial: 2 or 3 sizes.
    """
    dims, batch = len(spatial), len(numbers)
    numbers = numbers.float()
    distance = torch.zeros((batch, 1, *spatial), device=numbers.device)
    for axis, size in enumerate(spatial):
        ones = [1] * dims
        places = torch.arange(size, device=numbers.device).view(*ones[:axis], size, *ones[axis + 1 :])
        centre = (numbers[:, axis] * size).floor().view(-1, *[1] * (dims + 1))
        radius = (_RADII[0] + (_RADII[1] - _RADII[0]) * numbers[:, dims + axis]) * size
        distance = distance + ((places - centre) / radius.view(-1, *[1] * (dims + 1))).square()
    coarse = numbers[:, 2 * dims :].view(batch, 1, *[_CELLS] * dims) * 2 - 1
    border = functional.interpolate(coarse, tuple(spatial), mode=_MODES[dims], align_corners=True)
    # The centre is at distance 0, and the border never below 1 - _UNEVEN.
    return distance.sqrt() < 1 + _UNEVEN * border


def numbers_of_bent(dims: int) -> int:
    """How many numbers `bent` takes."""
    return int(dims + 1 + dims * _CELLS**dims)


def bent(region: Tensor, numbers: Tensor, shrink: float = 1.0) -> Tensor:
    """Resizes a region, rotates it in the plane of its first two axes and bends it; crops it to what is not 0.

    Args:
        region: integer classes (*spatial), 0 outside.
        numbers: (`numbers_of_bent`,) uniform in [0, 1).
        shrink: further factor of its size.

    Returns:
        The same dtype, a box of another size; empty (a side of 0) where nothing is left.
    """
    dims, numbers = region.ndim, numbers.float()
    box = _cut(region)
    if box.numel() == 0:
        return box
    sizes = [shrink * (_SIZES[0] + (_SIZES[1] - _SIZES[0]) * float(each)) for each in numbers[:dims]]
    angle = 2 * math.pi * float(numbers[dims])
    # A turned and bent box fits into one of its diagonal.
    side = math.ceil(max(sizes) * (1 + 2 * _BEND) * math.hypot(*box.shape)) + 2
    axes = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    places = torch.stack(torch.meshgrid(*[axes] * dims, indexing="ij"))
    turned = places.clone()
    turned[0] = math.cos(angle) * places[0] - math.sin(angle) * places[1]
    turned[1] = math.sin(angle) * places[0] + math.cos(angle) * places[1]
    coarse = (numbers[dims + 1 :].view(1, dims, *[_CELLS] * dims) * 2 - 1) * _BEND
    waves = functional.interpolate(coarse, [side] * dims, mode=_MODES[dims], align_corners=True)[0]
    indices, inside = [], torch.ones([side] * dims, dtype=torch.bool)
    for axis, size in enumerate(box.shape):
        place = (turned[axis] / sizes[axis] + waves[axis] * size + (size - 1) / 2).round().long()
        inside &= (place >= 0) & (place < size)
        indices.append(place.clamp(0, size - 1))
    return _cut(torch.where(inside, box[tuple(indices)], 0))


def fitting_places(box: Tensor, organ: Tensor) -> Tensor:
    """Where the first corner of `box` may lie so that nothing of it is outside of `organ`: (places, dims) int64.

    Args:
        box: integer classes, 0 outside.
        organ: bool (*spatial).
    """
    if any(part > whole for part, whole in zip(box.shape, organ.shape, strict=True)) or box.numel() == 0:
        return torch.empty((0, organ.ndim), dtype=torch.int64)
    # How much of the box lies outside, at every place at once: a correlation, by Fourier transforms, as a lesion in a
    # volume has thousands of voxels. It is cyclic; places where the box would wrap around are cut off.
    shape = tuple(organ.shape)
    inside = torch.zeros(shape)
    inside[tuple(slice(0, size) for size in box.shape)] = (box > 0).float()
    spectrum = torch.fft.rfftn((~organ).float()) * torch.fft.rfftn(inside).conj()
    outside: Tensor = torch.fft.irfftn(spectrum, s=shape)
    valid = tuple(slice(0, whole - part + 1) for part, whole in zip(box.shape, shape, strict=True))
    places: Tensor = (outside[valid] < 0.5).nonzero()
    return places


def _cut(region: Tensor) -> Tensor:
    """The smallest box with all that is not 0."""
    found = region.nonzero()
    if len(found) == 0:
        return region.new_empty([0] * region.ndim)
    low, high = found.amin(0).tolist(), found.amax(0).tolist()
    return region[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
