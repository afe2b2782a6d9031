"""TIFF through tifffile, which states the axes; compressions that it cannot decode through Pillow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.errors import MissingExtraError, missing_extra
from torchgenaug.recipes.data.readers.decoded import TURNS, Array, Decoded, channels_first, fill_nan

_SPATIAL, _CHANNELS, _CMYK = "YX", "CS", 5


def read_tiff(path: Path) -> Decoded:
    """(channels, height, width) or (channels, planes, height, width).

    What is a channel and what a plane of a stack comes from the metadata (OME, ImageJ, samples per pixel). White is
    high, whatever the file stores; a palette becomes colours; alpha is left out.
    """
    return _read(path, numbers=False)


def read_tiff_numbers(path: Path) -> Decoded:
    """The same for a mask: the numbers of a palette count, not its colours."""
    return _read(path, numbers=True)


def _read(path: Path, *, numbers: bool) -> Decoded:
    try:
        import tifffile
    except ImportError as error:
        raise missing_extra(f"A {path.suffix} file", package="tifffile", extra="fit") from error
    with path.open("rb") as opened:
        is_tiff = opened.read(2) in (b"II", b"MM")
    if not is_tiff:
        return _misnamed(path, numbers=numbers)
    with tifffile.TiffFile(path) as file:
        series, page = file.series[0], file.pages.first
        notes = [f"only the first of {len(file.series)} image series was read"] if len(file.series) > 1 else []
        axes = series.axes.upper()
        try:
            array: Array = series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            return _by_pillow(path, error, numbers=numbers)
        photometric = int(page.photometric)
        if photometric == _CMYK:
            return _by_pillow(path, ValueError("CMYK"), numbers=numbers)
        orientation = page.tags.get(274)
        if photometric == 3 and page.colormap is not None and not numbers:
            array, axes = _coloured(array, np.asarray(page.colormap)), axes + "S"
        if photometric == 0 and not numbers:
            array = _inverted(array, page.bitspersample)
        alphas = sum(int(each) in (1, 2) for each in page.extrasamples)
    if alphas and "S" in axes:
        keep = array.shape[axes.index("S")] - alphas
        array = np.take(array, range(keep), axes.index("S"))
    values, nan_notes = fill_nan(_by_axes(array, axes))
    turn = TURNS.get(0 if orientation is None else int(orientation.value))
    if turn is not None and "Y" in axes and "X" in axes:
        values = turn(values)
        notes.append("the orientation that the file states was applied")
    return Decoded(values, notes=(*notes, *nan_notes))


def _by_axes(array: Array, axes: str) -> Array:
    """(channels, *spatial): samples and channels in front, then the one other axis that is longer than 1, then y, x."""
    if "Y" not in axes or "X" not in axes:
        return channels_first(array)
    extra = [
        axis for axis, size in zip(axes, array.shape, strict=True) if axis not in _SPATIAL + _CHANNELS and size > 1
    ]
    if len(extra) > 1:
        raise ValueError(
            f"a TIFF must have one axis of planes at most, got axes {axes} of {array.shape}; save one stack per file"
        )
    order = [axes.index(axis) for axis in _CHANNELS if axis in axes]
    order += [axes.index(axis) for axis in extra] + [axes.index("Y"), axes.index("X")]
    dropped = [place for place in range(len(axes)) if place not in order]
    array = np.transpose(array, order + dropped).reshape([array.shape[place] for place in order])
    num_channel_axes = len([axis for axis in _CHANNELS if axis in axes])
    return array.reshape((-1, *array.shape[num_channel_axes:]))


def _coloured(array: Array, colormap: Array) -> Array:
    """A palette's colours (16 bits in the file) as 8-bit RGB, in a new last axis."""
    return np.moveaxis((colormap >> 8).astype(np.uint8)[:, array], 0, -1)


def _inverted(array: Array, bits: int) -> Array:
    if array.dtype == bool:
        return ~array
    if array.dtype.kind == "u":
        return np.asarray((2 ** int(bits) - 1) - array, array.dtype)
    return -1 - array if array.dtype.kind == "i" else array.max() + array.min() - array


def _misnamed(path: Path, *, numbers: bool) -> Decoded:
    """A picture of another kind that is named .tif."""
    from torchgenaug.recipes.data.readers.pictures import read_picture, read_picture_numbers

    decoded = (read_picture_numbers if numbers else read_picture)(path)
    return replace(decoded, notes=(*decoded.notes, "it is no TIFF, as its name says, but was read as what it is"))


def _by_pillow(path: Path, cause: ValueError, *, numbers: bool) -> Decoded:
    from torchgenaug.recipes.data.readers.pictures import read_picture, read_picture_numbers

    try:
        decoded = (read_picture_numbers if numbers else read_picture)(path)
    except Exception as error:
        raise MissingExtraError(
            f"{path} is compressed in a way that needs the package `imagecodecs`, which is not installed. Install it "
            "with: pip install 'torchgenaug[codecs]'"
        ) from (error if isinstance(error, ImportError) else cause)
    stacked: Any = decoded.values.ndim == 4  # pages, which for Pillow are frames
    return Decoded(decoded.values, notes=() if stacked else decoded.notes)
