"""`DicomHeader`: what a DICOM file states of itself, without its pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchgenaug.pseudonyms import pseudonym
from torchgenaug.recipes.data.readers.dicom import load_dicom, quiet

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of segmentation storage and of label map segmentation storage."""

RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
"""SOP class of RT dose storage: planned radiation, which is no image of a patient."""

_TAGS = ["PatientID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "SamplesPerPixel",
         "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
         "SpacingBetweenSlices", "SliceLocation", "InstanceNumber", "FrameOfReferenceUID", "ReferencedSeriesSequence",
         "SegmentSequence"]  # fmt: skip


@dataclass(frozen=True)
class DicomHeader:
    """What a DICOM file states.

    Args:
        patient: a `pseudonym`; None without an ID.
        reason: why it is no image; "" for an image.
        uid: SOP Instance UID.
        series: Series Instance UID; "" where none is stated.
        frame_of_reference: what its coordinates refer to; "" where none is stated.
        kind: rows, columns, samples per pixel and number of frames.
        position: Image Position (Patient); None without one.
        axes: Image Orientation (Patient); None without one.
        spacing_mm: distance of rows and of columns; None where unknown.
        between_mm: distance of slices, or their thickness; None where unknown.
        location: Slice Location; None without one.
        number: Instance Number; None without one.
        references: series that a segmentation states it belongs to.
        segments: number → label of the segments of a segmentation.
    """

    patient: str | None
    reason: str
    uid: str = ""
    series: str = ""
    frame_of_reference: str = ""
    kind: tuple[int, int, int, int] = (0, 0, 1, 1)
    position: tuple[float, float, float] | None = None
    axes: tuple[float, ...] | None = None
    spacing_mm: tuple[float, float] | None = None
    between_mm: float | None = None
    location: float | None = None
    number: int | None = None
    references: tuple[str, ...] = ()
    segments: dict[int, str] = field(default_factory=dict)

    @property
    def is_segmentation(self) -> bool:
        """Whether it holds masks of other files."""
        return bool(self.segments) or self.reason == "DICOM segmentations"


def look_at_dicom(path: Path) -> DicomHeader:
    """The header of a DICOM file.

    Raises:
        MissingExtraError: pydicom is not installed.
        Exception: whatever pydicom raises for a file that is none.
    """
    with quiet():
        header = load_dicom(path, stop_before_pixels=True, specific_tags=_TAGS)
        patient = str(header.get("PatientID", "") or "")
        named = f"dicom-{pseudonym(patient)}" if patient else None
        if str(header.get("SOPClassUID", "")) in SEGMENTATIONS:
            series = [str(each.get("SeriesInstanceUID", "")) for each in header.get("ReferencedSeriesSequence") or []]
            segments = {
                int(each.get("SegmentNumber", 0)): str(each.get("SegmentLabel", "") or "")
                for each in header.get("SegmentSequence") or []
                if int(each.get("SegmentNumber", 0))  # 0 is the background of a label map
            }
            return DicomHeader(
                named,
                "DICOM segmentations",
                frame_of_reference=str(header.get("FrameOfReferenceUID", "") or ""),
                references=tuple(filter(None, series)),
                segments=segments,
            )
        if str(header.get("SOPClassUID", "")) == RT_DOSE:
            return DicomHeader(named, "DICOM dose distributions")
        if "Rows" not in header:
            return DicomHeader(named, "DICOM without pixels")
        axes, spacing = _numbers(header, "ImageOrientationPatient", 6), _numbers(header, "PixelSpacing", 2)
        position = _numbers(header, "ImagePositionPatient", 3)
        return DicomHeader(
            named,
            "",
            str(header.get("SOPInstanceUID", "") or ""),
            str(header.get("SeriesInstanceUID", "") or ""),
            str(header.get("FrameOfReferenceUID", "") or ""),
            (
                int(header.get("Rows") or 0),
                int(header.get("Columns") or 0),
                int(header.get("SamplesPerPixel", 1) or 1),
                int(header.get("NumberOfFrames", 1) or 1),
            ),
            None if position is None else (position[0], position[1], position[2]),
            axes,
            None if spacing is None else (spacing[0], spacing[1]),
            _number(header.get("SpacingBetweenSlices")) or _number(header.get("SliceThickness")),
            _number(header.get("SliceLocation")),
            None if _number(header.get("InstanceNumber")) is None else int(header.InstanceNumber),
        )


def _numbers(header: Any, name: str, count: int) -> tuple[float, ...] | None:
    values = header.get(name)
    if values in (None, "") or isinstance(values, (str, bytes)) or len(values) != count:
        return None
    return tuple(float(each) for each in values)


def _number(value: Any) -> float | None:
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None
