"""`Decoded`: what every reader returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_CHANNELS = 4  # a first or last axis of at most so many is channels where nothing states what it is

TURNS: Mapping[int, Callable[[Array], Array]] = {
    2: lambda image: image[..., ::-1],
    3: lambda image: image[..., ::-1, ::-1],
    4: lambda image: image[..., ::-1, :],
    5: lambda image: image.swapaxes(-1, -2),
    6: lambda image: np.rot90(image, -1, (-2, -1)),
    7: lambda image: image[..., ::-1, ::-1].swapaxes(-1, -2),
    8: lambda image: np.rot90(image, 1, (-2, -1)),
}
"""What brings row 0 to the top and column 0 to the left, by the tag Orientation (274) of TIFF and EXIF."""


@dataclass(frozen=True)
class Decoded:
    """One image as its file states it.

    Args:
        values: (channels, *spatial), any real dtype.
        spacing_mm: distance of neighbouring pixels along each spatial axis; None where the file does not state it.
        notes: what was changed on the way, each a clause that a list of files can follow.
        stored_axes: where the axes pointed before they were turned to RAS+ ("LPS"), with a question mark where the file
            only has a default; "" of files that have no such thing.
        x_first: whether the first spatial axis is x (left to right), as in volumes in RAS+ order.
    """

    values: Array
    spacing_mm: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    x_first: bool = False
    stored_axes: str = ""


def channels_first(array: Array) -> Array:
    """(channels, *spatial) of an array whose axes nobody states: a short first or last axis of three is channels.

    Raises:
        ValueError: fewer than two or more than four axes.
    """
    if array.ndim < 2 or array.ndim > 4:
        raise ValueError(
            f"an image must have 2 to 4 axes, got an array of shape {array.shape}; save one image per file"
        )
    if array.ndim == 2:
        return array[None]
    if array.ndim == 4 or array.shape[0] <= MAX_CHANNELS:
        return array if array.shape[0] <= 16 or array.shape[-1] > MAX_CHANNELS else np.moveaxis(array, -1, 0)
    return np.moveaxis(array, -1, 0) if array.shape[-1] <= MAX_CHANNELS else array[None]


def fill_nan(values: Array) -> tuple[Array, tuple[str, ...]]:
    """The values with NaN, which some tools write outside of the body, replaced by the lowest value of the file."""
    if values.dtype.kind != "f":
        return values, ()
    missing = np.isnan(values)
    if not missing.any() or missing.all():  # an image of nothing else is refused later
        return values, ()
    return np.where(missing, values[~missing].min(), values), ("NaN values were replaced by the file's lowest value",)
