"""Samples as DICOM series: marked as synthetic, with UIDs of their own, and nobody's name."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError, missing_extra
from torchgenaug.export.geometry import Affine, as_displayed
from torchgenaug.export.levels import Levels, class_numbers
from torchgenaug.export.sample import ExportedSample, folder_of
from torchgenaug.types import FieldSpec

Modality: TypeAlias = Literal["CT", "MR", "OT"]

_STORAGE = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "OT": "1.2.840.10008.5.1.4.1.1.7",  # secondary capture: most readers then ignore where slices lie
}
_DERIVED = ["DERIVED", "SECONDARY", "OTHER"]
_EMPTY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
          "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "Laterality")  # fmt: skip
"""Attributes that the standard wants to be there (type 2), though nothing is known: empty."""


class DicomWriter:
    """Writes a folder of slices for each field of each sample, 16 bits with the rescale that gives the values back.

    Masks are a series of their own in the same frame of reference, with the number of the class as value.

    Args:
        fields: images and masks of one channel.
        modality: ``"CT"`` (values in HU), ``"MR"``, or ``"OT"``.
        value_range: intensities to cover; None: the range of each field.
        identity: of this very export; its UIDs are derived from it.

    Raises:
        ConfigurationError: several channels, or a field without a range.
    """

    group = 16

    def __init__(
        self,
        fields: Mapping[str, FieldSpec],
        modality: Modality = "OT",
        value_range: tuple[float, float] | None = None,
        identity: str = "",
    ) -> None:
        if modality not in _STORAGE:
            raise ConfigurationError(f"`modality` must be 'CT', 'MR' or 'OT', got {modality!r}.")
        for name, spec in fields.items():
            if spec.shape[0] != 1:
                raise ConfigurationError(
                    f"DICOM images must have one channel, got field {name!r} of {spec.shape[0]}. Use format 'nifti' or "
                    "'png'."
                )
        self.fields, self.modality, self.identity = dict(fields), modality, identity
        self.levels = {
            name: _rounded(Levels.of(name, spec, 16, value_range))
            for name, spec in fields.items()
            if spec.kind == "intensity"
        }
        self.clipped = 0

    def targets(self, position: int, name: str) -> Mapping[str, Path]:
        """One folder a field."""
        return {field: Path(folder_of(field), name) for field in self.fields}

    def settings(self) -> Mapping[str, Any]:
        """Modality, and how intensities became levels."""
        intensities = {name: levels.to_json() for name, levels in self.levels.items()}
        return {"modality": self.modality, "intensities": intensities}

    def write(self, samples: Sequence[ExportedSample], scratch: Path, out: Path) -> None:
        """One series after the other."""
        for sample in samples:
            for number, (field, path) in enumerate(self.targets(sample.position, sample.name).items(), 1):
                if (out / path).exists():  # whole, of a run that stopped between two fields
                    continue
                draft = scratch / f"{path.name}-{number}"
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir()
                for place, slice_ in enumerate(self.slices(sample, field, number), 1):
                    slice_.save_as(draft / f"{place:04d}.dcm", enforce_file_format=True)
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(draft, out / path)

    def slices(self, sample: ExportedSample, field: str, number: int = 1) -> list[Any]:
        """The slices of one field as pydicom data sets.

        Raises:
            MissingExtraError: pydicom is not installed.
        """
        try:
            import pydicom  # noqa: F401
        except ImportError as error:
            raise missing_extra("Format 'dicom'", package="pydicom", extra="export") from error
        values = sample.images[field][0]
        volume = values[..., None] if values.ndim == 2 else values
        levels = self.levels.get(field)
        if levels is None:
            stored, levels = class_numbers(field, volume).astype(np.uint16), Levels(0.0, 1.0, 65535)
        else:
            stored, clipped = levels.encode(volume)
            self.clipped += clipped
        turned, affine = as_displayed(stored, sample.affine)
        return [
            self._slice(sample, field, (number, place), pixels, affine, levels) for place, pixels in enumerate(turned)
        ]

    def _slice(
        self,
        sample: ExportedSample,
        field: str,
        place: tuple[int, int],
        pixels: npt.NDArray[Any],
        affine: Affine,
        levels: Levels,
    ) -> Any:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian

        is_mask = field not in self.levels
        modality = "OT" if is_mask else self.modality
        data = Dataset()
        # A mask keeps the storage class of its image: a secondary capture would lose where it lies.
        data.SOPClassUID = _STORAGE[self.modality]
        data.SOPInstanceUID = self._uid(sample, field, *place)
        data.StudyInstanceUID, data.SeriesInstanceUID = self._uid(sample), self._uid(sample, field)
        data.FrameOfReferenceUID = self._uid(sample, "frame")
        for name in _EMPTY:
            setattr(data, name, "")
        data.SyntheticData = "YES"
        data.Modality, data.Manufacturer, data.ManufacturerModelName = modality, "torchgenaug", "synthetic data"
        data.ImageType = _DERIVED
        data.ConversionType = "SYN"
        data.SeriesDescription = f"synthetic {field}"
        data.DerivationDescription = "Generated by a model; no finding is that of a patient."
        data.SeriesNumber, data.InstanceNumber = place[0], place[1] + 1
        _set_place(data, affine, place[1])
        _set_pixels(data, pixels, levels)
        if self.modality == "CT" and not is_mask:
            data.RescaleType = "HU"
        if self.modality == "CT":
            data.KVP, data.AcquisitionNumber = None, None
        if self.modality == "MR":
            data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "RM", "NONE", ""
            data.MRAcquisitionType = "3D" if len(sample.images[field].shape) == 4 else "2D"
            data.RepetitionTime, data.EchoTime, data.EchoTrainLength = None, None, None
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        return data

    def _uid(self, sample: ExportedSample, *parts: Any) -> str:
        """A UID of the form 2.25.<number>, the same whenever the export is resumed."""
        affine = hashlib.sha256(sample.affine.tobytes()).hexdigest()
        text = "\n".join(map(str, (self.identity, self.settings(), sample.name, affine, *parts)))
        return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"


def _set_place(data: Any, affine: Affine, place: int) -> None:
    """Where the slice lies; `affine` maps (column, row, slice) to LPS+ mm."""
    steps = affine[:3, :3]
    spacing = np.linalg.norm(steps, axis=0)
    directions = steps / spacing
    if abs(float(directions[:, 0] @ directions[:, 1])) > 1e-4:
        raise ConfigurationError(
            "A DICOM slice must have perpendicular rows and columns, got an affine with a shear. Use format 'nifti'."
        )
    data.ImagePositionPatient = [_decimal(each) for each in affine[:3, :3] @ [0, 0, place] + affine[:3, 3]]
    data.ImageOrientationPatient = [_decimal(each) for each in (*directions[:, 0], *directions[:, 1])]
    data.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]  # between rows, then between columns
    normal = np.cross(directions[:, 0], directions[:, 1])
    data.SliceThickness = data.SpacingBetweenSlices = _decimal(abs(float(normal @ steps[:, 2])))
    data.SliceLocation = _decimal(float(normal @ (steps @ [0, 0, place] + affine[:3, 3])))


def _set_pixels(data: Any, pixels: npt.NDArray[Any], levels: Levels) -> None:
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.RescaleSlope, data.RescaleIntercept = _decimal(levels.step), _decimal(levels.low)
    data.RescaleType = "US"
    top = max(1, int(pixels.max()))
    data.WindowCenter = _decimal(levels.low + levels.step * top / 2)
    data.WindowWidth = _decimal(max(levels.step * top, 1e-6))
    data.PixelData = np.ascontiguousarray(pixels, "<u2").tobytes()


def _decimal(value: float) -> Any:
    """A number as a decimal string has it: at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value), auto_format=True)


def _rounded(levels: Levels) -> Levels:
    """The levels that a reader computes: DICOM holds slope and intercept in 16 characters each."""
    low, step = float(f"{levels.low:.9g}"), float(f"{levels.step:.9g}")
    # Rounded up, so that the largest value is still inside.
    return Levels(low, step if low + step * levels.highest >= levels.low + levels.step * levels.highest else
                  float(f"{levels.step * (1 + 1e-8):.9g}"), levels.highest)  # fmt: skip
