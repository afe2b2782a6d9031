"""Volumes that nibabel reads: NIfTI, Analyze (.hdr/.img), FreeSurfer (.mgz)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.recipes.data.readers.decoded import Array, Decoded, fill_nan

_MAX_VECTOR = 16


def read_nifti(path: Path) -> Decoded:
    """(channels, x, y, z) in RAS+ order, or (channels, x, y) where the third axis has length 1.

    A fourth axis of at most 16, a fifth after a fourth of 1, and the parts of an RGB value are channels.
    """
    import nibabel

    library: Any = nibabel  # parts of it have no types
    notes: list[str] = []
    stored = _load(library, path, notes)
    image = library.as_closest_canonical(stored)
    array: Array = np.asanyarray(image.dataobj)
    if array.dtype.names:
        colours = [name for name in array.dtype.names if name != "A"]
        array = np.stack([array[name] for name in colours], -1)
        array = array.reshape(*array.shape[:3], -1)
    if array.dtype.kind == "c":
        raise ValueError("a volume must be real, got complex numbers; save the magnitude: numpy.abs(volume)")
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    array = _channels_first(array, notes)
    zooms = tuple(float(each) for each in image.header.get_zooms()[:3])
    if array.ndim == 4 and array.shape[-1] == 1:
        array, zooms = array[..., 0], zooms[:2]
    spacing = zooms if len(zooms) == array.ndim - 1 and all(each > 0 for each in zooms) else None
    values, nan_notes = fill_nan(array)
    return Decoded(values, spacing, (*notes, *nan_notes), x_first=True, stored_axes=_stored_axes(library, stored))


def _load(library: Any, path: Path, notes: list[str]) -> Any:
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    if not is_packed or not path.name.lower().endswith(".nii"):
        return library.load(path)
    notes.append("it is compressed, which its name does not say")
    return library.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))


def _stored_axes(library: Any, image: Any) -> str:
    axes = "".join(code or "?" for code in library.aff2axcodes(image.affine))
    header = image.header
    has_codes = "sform_code" in header and "qform_code" in header
    is_default = np.allclose(image.affine, np.eye(4)) or (
        has_codes and not int(header["sform_code"]) and not int(header["qform_code"])
    )
    return f"{axes}?" if is_default else axes


def _channels_first(array: Array, notes: list[str]) -> Array:
    if array.ndim == 5 and array.shape[3] == 1:
        array = array[..., 0, :]
    while array.ndim > 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim <= 3:
        return array[None]
    if array.ndim > 4 or array.shape[3] > _MAX_VECTOR:
        raise ValueError(
            f"a volume must have 3 axes, or a fourth of at most {_MAX_VECTOR} channels, got {array.shape}: a series; "
            "save one volume per file, for example with nibabel.four_to_three"
        )
    if array.shape[3] > 1 and array.dtype != np.uint8:
        notes.append(f"a fourth axis of {array.shape[3]} became channels")
    return np.moveaxis(array, -1, 0)
