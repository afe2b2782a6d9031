"""One image file → one tensor (channels, *spatial), in the type that the file has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, missing_extra

_MAX_CHANNELS = 4  # a first or last axis of at most so many is channels, a longer one is space

Array = npt.NDArray[Any]


def suffix_of(path: Path) -> str:
    """The ending of a file that can be read (".nii.gz" is one), else ""."""
    name = path.name.lower()
    return next((ending for ending in READERS if name.endswith(ending)), "")


def stem_of(path: Path) -> str:
    """The file's name without its ending."""
    ending = suffix_of(path)
    return path.name[: -len(ending)] if ending else path.name


def read_image(path: Path) -> Tensor:
    """(channels, *spatial) of a picture, a volume or an array file; NIfTI volumes in RAS+ order.

    Raises:
        ConfigurationError: a file that cannot be read as what its name says, named.
        MissingExtraError: the package that reads it is not installed.
    """
    return _to_tensor(_read(path, READERS[suffix_of(path)]))


def read_mask(path: Path) -> Tensor:
    """(1, *spatial) of a mask; a palette's numbers count, not its colours.

    Raises:
        ConfigurationError: as `read_image`, or colours, which are no classes.
    """
    array = _read(path, _picture_numbers if READERS[suffix_of(path)] is _picture else READERS[suffix_of(path)])
    mask = _to_tensor(array)
    if len(mask) > 1 and bool((mask == mask[:1]).all()):
        mask = mask[:1]  # grey that was saved as colour
    if len(mask) != 1:
        raise ConfigurationError(
            f"A mask must have one channel of classes, got {len(mask)} channels at {path}. Write the number of each "
            "pixel's class: 0, 1, 2, … into a grey image."
        )
    return mask


def dicom_patient(path: Path) -> str | None:
    """A pseudonym of the patient of a DICOM file: the beginning of the sha256 of the ID; None without one."""
    pydicom = _pydicom()
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
    except Exception as error:
        raise _unreadable(path, error) from error
    patient = str(header.get("PatientID", ""))
    return f"dicom-{hashlib.sha256(patient.encode()).hexdigest()[:12]}" if patient else None


def _read(path: Path, reader: Callable[[Path], Array]) -> Array:
    try:
        return reader(path)
    except ImportError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"Every file must be readable as what its name says, got {path}: {type(error).__name__}: {error}. Replace or "
        "remove it."
    )


def _to_tensor(array: Array) -> Tensor:
    if array.ndim < 2 or array.ndim > 4:
        raise ConfigurationError(
            f"An image must have 2 to 4 axes, got an array of shape {array.shape}. Save one image per file."
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.int64 if array.dtype.itemsize > 2 else np.int32)
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    tensor = torch.from_numpy(np.array(array))
    if tensor.ndim == 2:
        return tensor[None]
    if tensor.ndim == 4:
        return tensor
    if tensor.shape[0] <= _MAX_CHANNELS:
        return tensor
    return tensor.movedim(-1, 0).contiguous() if tensor.shape[-1] <= _MAX_CHANNELS else tensor[None]


def _picture(path: Path) -> Array:
    return _open_picture(path, as_colours=True)


def _picture_numbers(path: Path) -> Array:
    return _open_picture(path, as_colours=False)


def _open_picture(path: Path, *, as_colours: bool) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra(f"A {path.suffix} file", package="pillow", extra="fit") from error
    with Image.open(path) as opened:
        picture: Any = opened
        palette = picture.mode in ("P", "PA")
        if (palette and as_colours) or picture.mode in ("RGBA", "CMYK", "YCbCr", "LAB", "HSV"):
            picture = picture.convert("RGB")
        elif picture.mode in ("LA", "1"):
            picture = picture.convert("L")
        return np.asarray(picture)


def _tiff(path: Path) -> Array:
    try:
        import tifffile
    except ImportError as error:
        raise missing_extra(f"A {path.suffix} file", package="tifffile", extra="fit") from error
    array: Array = tifffile.imread(path)
    return array


def _nifti(path: Path) -> Array:
    import nibabel

    library: Any = nibabel  # parts of it have no types
    image = library.as_closest_canonical(library.load(path))
    array: Array = np.asanyarray(image.dataobj)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.ndim == 4:
        array = np.moveaxis(array, -1, 0)
        # Singleton axes are for 2D images: (x, y, 1, channels).
        return array[..., 0] if array.shape[-1] == 1 else array
    if array.ndim == 3:
        return array[..., 0] if array.shape[-1] == 1 else array[None]
    return array


def _numpy(path: Path) -> Array:
    array: Array = np.load(path, allow_pickle=False)
    return array


def _dicom(path: Path) -> Array:
    dataset = _pydicom().dcmread(path)
    pixels: Array = dataset.pixel_array
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    if (slope, intercept) != (1, 0):
        pixels = (pixels * slope + intercept).astype(np.float32)
    return pixels


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise missing_extra("A .dcm file", package="pydicom", extra="fit") from error
    return pydicom


READERS: Mapping[str, Callable[[Path], Array]] = {
    ".nii.gz": _nifti,
    ".nii": _nifti,
    ".png": _picture,
    ".jpg": _picture,
    ".jpeg": _picture,
    ".bmp": _picture,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".npy": _numpy,
    ".dcm": _dicom,
}
"""What reads a file, by its ending."""
