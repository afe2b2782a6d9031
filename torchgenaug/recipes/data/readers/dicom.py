"""DICOM through pydicom: values in the unit that the file states (HU for CT), brighter is higher."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.errors import MissingExtraError, missing_extra
from torchgenaug.recipes.data.readers.decoded import Array, Decoded

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_FIRST_WORDS = {
    bytes(order) for element in (0, 1, 5, 8, 0x16, 0x18) for order in ([8, 0, element, 0], [0, 8, 0, element])
}
_AIR = -1024  # HU; nothing is lighter, and scanners write less for what lies outside of the field of view


def read_dicom(path: Path) -> Decoded:
    """(channels, height, width), or (channels, frames, height, width) of a file with frames.

    Applied: the modality LUT or the rescale of the file or of its functional groups; MONOCHROME1 is inverted; a
    palette becomes colours; padding gets the lowest value of the image. Values of 8 bits stay so.
    """
    pixels = pydicom_library().pixels
    with quiet():
        dataset = load_dicom(path)
        if not any(name in dataset for name in _PIXELS):
            raise ValueError("the file holds no pixels")
        try:
            array: Array = np.array(pixels.pixel_array(dataset))
        except (RuntimeError, NotImplementedError, ImportError) as error:
            if dataset.file_meta.TransferSyntaxUID.is_compressed and _lacks_decoder(error):
                raise MissingExtraError(
                    f"{path} is compressed ({dataset.file_meta.TransferSyntaxUID.name}), which needs `pylibjpeg` with "
                    "its plug-ins pylibjpeg-libjpeg and pylibjpeg-openjpeg. Install them with: pip install "
                    "'torchgenaug[codecs]'"
                ) from error
            raise
        photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
        if photometric == "PALETTE COLOR":
            colours = pixels.apply_color_lut(array, dataset)
            array = (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
        if photometric == "PALETTE COLOR" or int(dataset.get("SamplesPerPixel", 1) or 1) > 1:
            return Decoded(np.moveaxis(array, -1, 0), _spacing(dataset, array.ndim - 1))
        return _grey(dataset, array, photometric)


def _grey(dataset: Any, array: Array, photometric: str) -> Decoded:
    notes = []
    padding = _padding(dataset, array)
    values = _rescaled(dataset, array)
    if photometric == "MONOCHROME1":
        low, high = _stored_limits(dataset)
        ends = _rescaled(dataset, np.array([low, high], array.dtype)) if values.ndim == 2 else None
        total = float(ends.sum()) if ends is not None else float(values.min()) + float(values.max())
        values = (total - values).astype(values.dtype)
        notes.append("MONOCHROME1 was inverted, so that bright is high")
    if padding is not None and padding.any() and not padding.all():
        values[padding] = values[~padding].min()
        notes.append("padding got the image's lowest value")
    if str(dataset.get("Modality", "")) == "CT" and values.min() < _AIR and values.dtype.kind in "if":
        values = np.maximum(values, _AIR)
        notes.append(f"values below {_AIR} HU, which no tissue has, became {_AIR} HU")
    return Decoded(values[None], _spacing(dataset, array.ndim), tuple(notes))


def _rescaled(dataset: Any, array: Array) -> Array:
    """Stored values in the unit of the file: by its modality LUT, its rescale, or those of its functional groups."""
    if dataset.get("ModalityLUTSequence"):
        return np.asarray(pydicom_library().pixels.apply_modality_lut(array, dataset))
    frames = array if array.ndim == 3 else array[None]
    own = _linear(dataset)
    lines = [_frame_linear(dataset, frame) or own for frame in range(len(frames))]
    if all(line in (None, (1.0, 0.0)) for line in lines):
        return array
    result = np.empty(frames.shape, np.float32)
    for frame, line in enumerate(lines):
        slope, intercept = line or (1.0, 0.0)
        result[frame] = frames[frame] * slope + intercept
    return result.reshape(array.shape)


def _linear(dataset: Any) -> tuple[float, float] | None:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope in (None, "") and intercept in (None, ""):
        return None
    return float(1 if slope in (None, "") else slope), float(0 if intercept in (None, "") else intercept)


def _frame_linear(dataset: Any, frame: int) -> tuple[float, float] | None:
    """Slope and intercept of one frame of an enhanced file: its own group first, then the shared one."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*per_frame[frame : frame + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])]
    for group in groups:
        for item in group.get("PixelValueTransformationSequence") or []:
            found = _linear(item)
            if found is not None:
                return found
    return None


def _stored_limits(dataset: Any) -> tuple[int, int]:
    bits = int(dataset.BitsStored)
    return (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if int(dataset.get("PixelRepresentation", 0)) else (0, (1 << bits) - 1)
    )


def _padding(dataset: Any, array: Array) -> Any:
    """Which stored values are padding; None where the file states none."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value in (None, "") or array.dtype.kind not in "iu":
        return None
    ends = [_signed(value, array)] + ([] if limit in (None, "") else [_signed(limit, array)])
    return (array >= min(ends)) & (array <= max(ends))


def _signed(value: Any, array: Array) -> int:
    """A padding value that was written unsigned for signed pixels, or the reverse, as the pixels hold it."""
    number = int.from_bytes(value, "little") if isinstance(value, bytes) else int(value)
    limits, span = np.iinfo(array.dtype), 1 << 8 * array.dtype.itemsize
    return number - span if number > limits.max else number + span if number < limits.min else number


def _spacing(dataset: Any, dims: int) -> tuple[float, ...] | None:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    measures = None if shared is None else (shared.get("PixelMeasuresSequence") or [None])[0]
    for place in (dataset, measures):
        if place is None:
            continue
        within = place.get("PixelSpacing") or place.get("ImagerPixelSpacing")
        between = place.get("SpacingBetweenSlices") or place.get("SliceThickness")
        if within and dims == 2:
            return float(within[0]), float(within[1])
        if within and between:
            return float(between), float(within[0]), float(within[1])
    return None


def is_dicom(path: Path) -> bool:
    """Whether a file of any name begins as DICOM does: the mark after the preamble, or a first group without one."""
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:132] == b"DICM":
        return True
    # Before part 10 of the standard, files began with group 2 or 8 and an element of two even bytes.
    return len(head) == 132 and head[:4] in _FIRST_WORDS


def load_dicom(path: Path, **options: Any) -> Any:
    """The data set of a file, with or without preamble; its transfer syntax is always stated."""
    pydicom = pydicom_library()
    dataset = pydicom.dcmread(path, force=is_dicom(path), **options)
    if not getattr(dataset, "file_meta", None):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        uid = pydicom.uid
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _lacks_decoder(error: Exception) -> bool:
    """Whether a plug-in would help; where all are installed, the error states what else is wrong."""
    words = ("missing", "plugin", "dependencies", "not supported", "No module")
    installed = all(find_spec(name) is not None for name in ("libjpeg", "openjpeg"))
    return not installed and any(word in str(error) for word in words)


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's remarks on odd but readable headers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def pydicom_library() -> Any:
    """The library, with its module of pixels.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise missing_extra("A DICOM file", package="pydicom", extra="fit") from error
    return pydicom
