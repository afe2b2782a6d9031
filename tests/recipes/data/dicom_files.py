"""Small DICOM files: slices of a series with their place in the patient, and segmentations of them."""

from __future__ import annotations

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402
from pydicom.pixels import pack_bits  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, generate_uid  # noqa: E402

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
CT, SEG, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
AXIAL = (1, 0, 0, 0, 1, 0)
FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.1"


def item(**values):
    """A sequence of one item."""
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return Sequence([dataset])


def _new(sop, array, uid):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = uid or generate_uid()
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop, meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = array.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    return dataset


def _save(dataset, path, tags):
    for name, value in tags.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def write_slice(path, array, series, position, axes=AXIAL, uid=None, patient="p", **tags):
    """One slice of int16; a position of None states neither position nor orientation."""
    dataset = _new(CT, array, uid)
    dataset.PatientID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = patient, series, FRAME_OF_REFERENCE
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData = array.astype("<i2").tobytes()
    if position is not None:
        dataset.ImagePositionPatient = [float(each) for each in position]
        dataset.ImageOrientationPatient = [float(each) for each in axes]
    dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.8], 2.5
    return _save(dataset, path, tags)


def write_series(folder, volume, names=None, axes=AXIAL, origin=(-5.0, -7.0, 3.0), between=2.5, patient="p", **tags):
    """A series of (slices, rows, columns), in a random order of names; its UID and the position of each slice."""
    series, normal = generate_uid(), np.cross(axes[:3], axes[3:])
    positions = [tuple(np.asarray(origin) + normal * between * k) for k in range(len(volume))]
    names = names or [f"IM{k:03}.dcm" for k in np.random.default_rng(0).permutation(len(volume))]
    for name, plane, position in zip(names, volume, positions, strict=True):
        write_slice(folder / name, plane, series, position, axes, patient=patient, **tags)
    return series, positions


def write_enhanced(path, volume, patient="p", axes=AXIAL, origin=(-5.0, -7.0, 3.0), between=2.5):
    """One multi-frame file of (slices, rows, columns); its series UID and the position of each frame."""
    series = generate_uid()
    positions = [tuple(np.asarray(origin) + np.cross(axes[:3], axes[3:]) * between * k) for k in range(len(volume))]
    dataset = _new(ENHANCED_CT, volume, None)
    dataset.PatientID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = patient, series, FRAME_OF_REFERENCE
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.NumberOfFrames = 15, 1, len(volume)
    dataset.PixelData = volume.astype("<i2").tobytes()
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[float(each) for each in axes])
    shared.PixelMeasuresSequence = item(PixelSpacing=[0.5, 0.8], SliceThickness=between)
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    places = [item(ImagePositionPatient=[float(each) for each in position]) for position in positions]
    dataset.PerFrameFunctionalGroupsSequence = Sequence([item(PlanePositionSequence=place)[0] for place in places])
    _save(dataset, path, {})
    return series, positions


def write_segmentation(path, series, masks, positions, numbers, labels, axes=AXIAL, kind="BINARY", **tags):
    """A segmentation: a frame (rows, columns) for each position, of the segment of that number."""
    array = np.stack(masks)
    dataset = _new(LABEL_MAP if kind == "LABELMAP" else SEG, array, None)
    dataset.PatientID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "p", generate_uid(), FRAME_OF_REFERENCE
    if series:
        dataset.ReferencedSeriesSequence = item(SeriesInstanceUID=series)
    dataset.SegmentationType, dataset.NumberOfFrames, dataset.PixelRepresentation = kind, len(array), 0
    dataset.SegmentSequence = Sequence(
        [item(SegmentNumber=number, SegmentLabel=label)[0] for number, label in labels.items()]
    )
    if kind == "BINARY":
        dataset.BitsAllocated = dataset.BitsStored = 1
        dataset.HighBit = 0
        packed = pack_bits(array.astype(np.uint8).reshape(-1))
        dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    else:
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.MaximumFractionalValue = 7, 200
        dataset.PixelData = (array * (200 if kind == "FRACTIONAL" else 1)).astype(np.uint8).tobytes()
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[float(each) for each in axes])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for position, number in zip(positions, numbers, strict=True):
        frame = Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=[float(each) for each in position])
        if kind != "LABELMAP":
            frame.SegmentIdentificationSequence = item(ReferencedSegmentNumber=number)
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return _save(dataset, path, tags)
