"""Samples as NIfTI: one ``.nii.gz`` a field, values as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import missing_extra
from torchgenaug.export.geometry import Affine
from torchgenaug.export.levels import class_numbers
from torchgenaug.export.sample import ExportedSample, folder_of
from torchgenaug.types import FieldSpec

_SCANNER = 1  # code of an affine in the coordinates of a scanner: ITK-SNAP and 3D Slicer ignore code 0
_KEPT = ("uint8", "int16", "int32", "uint16", "float32")


class NiftiWriter:
    """Writes every image as (x, y, z) or (x, y, z, channels), pictures with one slice; intensities are not rounded.

    Args:
        fields: images and masks.
    """

    group = 16

    def __init__(self, fields: Mapping[str, FieldSpec]) -> None:
        self.fields = dict(fields)

    def targets(self, position: int, name: str) -> Mapping[str, Path]:
        """One file a field."""
        return {field: Path(folder_of(field), f"{name}.nii.gz") for field in self.fields}

    def settings(self) -> Mapping[str, Any]:
        """Nothing but the format."""
        return {}

    def write(self, samples: Sequence[ExportedSample], scratch: Path, out: Path) -> None:
        """One after the other."""
        for sample in samples:
            for field, path in self.targets(sample.position, sample.name).items():
                draft = scratch / path.name
                is_mask = self.fields[field].kind == "label_map"
                draft.write_bytes(nifti_bytes(field, sample.images[field], sample.affine, is_mask=is_mask))
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(draft, out / path)


def nifti_bytes(name: str, values: npt.NDArray[Any], affine: Affine, *, is_mask: bool) -> bytes:
    """The content of a ``.nii.gz``; the same values give the same bytes.

    Raises:
        MissingExtraError: nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise missing_extra("Format 'nifti'", package="nibabel", extra="export") from error
    import gzip

    library: Any = nibabel
    if is_mask:
        values = class_numbers(name, values)
    elif str(values.dtype) not in _KEPT:
        values = values.astype(np.float32 if values.dtype.kind == "f" else np.int32)
    if values.ndim == 3:
        values = values[..., None]
    volume = values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
    image = library.Nifti1Image(np.ascontiguousarray(volume), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"synthetic, torchgenaug"
    image.set_sform(affine, _SCANNER)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(directions.T @ directions, np.eye(3), atol=1e-5):  # a quaternion holds no shear
        image.set_qform(affine, _SCANNER)
    return gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)
