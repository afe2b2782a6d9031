"""The image or the mask of a sample, read from its file or files, in the type that they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.mask_column import COLOUR
from torchgenaug.recipes.data.parts import ArrayRow, Part, Planes, Segmentation
from torchgenaug.recipes.data.readers.arrays import (
    MASK_MEMBERS,
    choose_member,
    holds_several,
    load_array,
    load_row,
    one_array,
    read_array,
)
from torchgenaug.recipes.data.readers.containers import HDF5, MATLAB
from torchgenaug.recipes.data.readers.decoded import Array, Decoded
from torchgenaug.recipes.data.readers.dicom import read_dicom
from torchgenaug.recipes.data.readers.dicom_seg import read_segmentation
from torchgenaug.recipes.data.readers.itk import read_itk
from torchgenaug.recipes.data.readers.nifti import read_nifti
from torchgenaug.recipes.data.readers.pictures import read_picture, read_picture_numbers
from torchgenaug.recipes.data.readers.tiff import read_tiff, read_tiff_numbers

Reader: TypeAlias = Callable[[Path], Decoded]

READERS: Mapping[str, Reader] = {
    **dict.fromkeys((".nii.gz", ".nii", ".img.gz", ".img", ".mgz", ".mgh"), read_nifti),
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr", ".gipl", ".gipl.gz"), read_itk),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp"), read_picture),
    **dict.fromkeys((".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".j2k", ".tga"), read_picture),
    **dict.fromkeys((".ome.tif", ".ome.tiff", ".tif", ".tiff", ".lsm", ".btf"), read_tiff),
    **dict.fromkeys((".npy", ".npz", *HDF5, MATLAB), read_array),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), read_dicom),
}
"""What reads a file, by its ending; a longer ending stands before the shorter one that it contains."""

_OF_MASKS: Mapping[Reader, Reader] = {read_picture: read_picture_numbers, read_tiff: read_tiff_numbers}
_NUM_COLOURS = 3
_ROUNDED = 4  # by how much WebP lets the colours of a grey pixel differ


@dataclass(frozen=True)
class Reading:
    """What was read: (channels, *spatial) in the file's own type; the rest is as in `Decoded`."""

    values: Tensor
    spacing_mm: tuple[float, ...] | None
    notes: tuple[str, ...]
    x_first: bool
    stored_axes: str


def suffix_of(path: Path) -> str:
    """The ending of a file that can be read (".nii.gz" is one), else ""."""
    name = path.name.lower()
    return next((ending for ending in READERS if name.endswith(ending)), "")


def stem_of(path: Path) -> str:
    """The file's name without its ending."""
    ending = suffix_of(path)
    return path.name[: -len(ending)] if ending else path.name


def read_image(parts: Sequence[Part]) -> Reading:
    """The image of a sample; several files are its channels.

    Raises:
        ConfigurationError: a file that cannot be read as what its name states, named; channels of different sizes.
        MissingExtraError: the package that reads it is not installed.
    """
    decoded = [_decode(part, of_mask=False) for part in parts]
    for part, each in zip(parts, decoded, strict=True):
        if each.values.shape[1:] != decoded[0].values.shape[1:]:
            raise ConfigurationError(
                f"The files of one image must have one size, got {decoded[0].values.shape[1:]} at {parts[0]} and "
                f"{each.values.shape[1:]} at {part}. Resample them onto one grid, or choose one kind, for example "
                f"--images '*{Path(str(part)).name[-12:]}'."
            )
    values = decoded[0].values if len(decoded) == 1 else np.concatenate([each.values for each in decoded])
    return _reading(_to_tensor(values), decoded)


def read_mask(parts: Sequence[Part]) -> Reading:
    """(1, *spatial) of the mask of a sample: numbers, greys, or colours as `COLOUR` + 0xRRGGBB.

    Several files are united: the highest value holds.

    Raises:
        ConfigurationError: as `read_image`, or channels that are no colours.
    """
    decoded = [_decode(part, of_mask=True) for part in parts]
    masks = [_one_channel(each.values, part) for each, part in zip(decoded, parts, strict=True)]
    if len({each.shape for each in masks}) > 1:
        raise ConfigurationError(
            f"The masks of one image must have one size, got {', '.join(str(each.shape[1:]) for each in masks)} at "
            f"{', '.join(map(str, parts))}. Resample them onto the grid of the image."
        )
    return _reading(_to_tensor(masks[0] if len(masks) == 1 else np.maximum.reduce(masks)), decoded)


def _reading(values: Tensor, decoded: Sequence[Decoded]) -> Reading:
    notes = dict.fromkeys(note for each in decoded for note in each.notes)
    return Reading(values, decoded[0].spacing_mm, tuple(notes), decoded[0].x_first, decoded[0].stored_axes)


def _decode(part: Part, *, of_mask: bool) -> Decoded:
    if isinstance(part, Planes):
        return _stacked(part, of_mask=of_mask)
    path = part if isinstance(part, Path) else part.path
    try:
        if isinstance(part, Segmentation):
            return read_segmentation(part)
        if isinstance(part, ArrayRow):
            return one_array(load_row(path, part.member, part.row, part.axis), is_volume=part.is_volume)
        reader = READERS.get(suffix_of(path), read_dicom)
        if of_mask and holds_several(path):
            return one_array(load_array(path, choose_member(path, MASK_MEMBERS)))
        return _OF_MASKS.get(reader, reader)(path) if of_mask else reader(path)
    except ImportError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def _stacked(volume: Planes, *, of_mask: bool) -> Decoded:
    """The planes of a volume, each read from its files, in RAS+ order."""
    read = read_mask if of_mask else read_image
    planes = [read(parts) for parts in volume.parts]
    arrays = [plane.values.numpy() for plane in planes]
    for parts, array in zip(volume.parts, arrays, strict=True):
        if array.shape != (len(arrays[0]), *volume.grid.shape):
            raise ConfigurationError(
                f"Files of the slices of a volume must have their rows and columns, {volume.grid.shape}, got "
                f"{array.shape[1:]} with {len(array)} channels at {parts[0]}. Bring them onto the grid of the slices."
            )
    values, spacing, axes = volume.grid.to_ras(np.stack(arrays, 1))
    notes = dict.fromkeys(note for plane in planes for note in plane.notes)
    return Decoded(values, spacing, (*notes, *volume.notes), x_first=True, stored_axes=axes)


def unreadable(path: Path, error: Exception) -> ConfigurationError:
    """The error for a file that its reader refuses."""
    with path.open("rb") as file:
        is_pointer = file.read(24) == b"version https://git-lfs."
    remedy = "It is a pointer of Git LFS: fetch the file with git lfs pull." if is_pointer else "Replace or remove it."
    return ConfigurationError(
        f"Every file must be readable as what its name says, got {path}: {type(error).__name__}: {error}. {remedy}"
    )


def _one_channel(values: Array, part: Part) -> Array:
    if len(values) > 1 and bool((values == values[:1]).all()):
        return values[:1]  # grey that was saved as colour
    if len(values) == _NUM_COLOURS and values.dtype == np.uint8 and int(np.ptp(values, 0).max()) <= _ROUNDED:
        return values[1:2]  # grey that was compressed as colour
    if len(values) == _NUM_COLOURS and values.dtype == np.uint8:
        red, green, blue = values.astype(np.int32)
        return np.asarray((COLOUR | red << 16 | green << 8 | blue)[None])
    if len(values) != 1:
        raise ConfigurationError(
            f"A mask must have one channel of classes, got {len(values)} channels at {part}. Write the number of each "
            "pixel's class: 0, 1, 2, … into a grey image (numpy.argmax over the channels)."
        )
    return values


def _to_tensor(array: Array) -> Tensor:
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.int64 if array.dtype.itemsize > 2 else np.int32)
    elif array.dtype.kind == "f":
        array = array.astype(np.float32)
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.array(array))
