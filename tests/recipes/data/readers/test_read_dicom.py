"""DICOM variants: values and axes are what the file states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid  # noqa: E402

from torchgenaug.errors import ConfigurationError, EmptyDatasetError, MissingExtraError  # noqa: E402
from torchgenaug.recipes.data.load import load_data  # noqa: E402
from torchgenaug.recipes.data.readers.dicom import read_dicom  # noqa: E402

RAMP = (np.arange(256, dtype=np.uint16) * 8).reshape(16, 16)


def write(path, array=RAMP, photometric="MONOCHROME2", sop=SecondaryCaptureImageStorage, **tags):
    """A DICOM file of stored values (frames, rows, columns, colours)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop, meta.MediaStorageSOPInstanceUID
    colour = photometric == "RGB"
    shape = array.shape[:-1] if colour else array.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3 if colour else 1), photometric
    if colour:
        dataset.PlanarConfiguration = 0
    if len(shape) == 3:
        dataset.NumberOfFrames = shape[0]
    dataset.Rows, dataset.Columns = shape[-2:]
    dataset.BitsAllocated = array.dtype.itemsize * 8
    dataset.BitsStored = tags.pop("BitsStored", dataset.BitsAllocated)
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(array.dtype.kind == "i")
    dataset.PixelData = array.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def rescale(slope, intercept):
    """A functional group with a rescale."""
    values, group = Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = str(slope), str(intercept), "HU"
    group.PixelValueTransformationSequence = Sequence([values])
    return group


def test_each_frame_has_its_own_rescale(tmp_path):
    groups = Sequence([rescale(1, 0), rescale(2, -100)])
    path = write(tmp_path / "a", np.stack([RAMP, RAMP]), PerFrameFunctionalGroupsSequence=groups)
    values = read_dicom(path).values
    assert values.shape == (1, 2, 16, 16)
    assert np.array_equal(values[0, 0], RAMP)
    assert np.array_equal(values[0, 1], 2.0 * RAMP - 100)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("colour", [False, True])
def test_frames_are_planes_and_colours_are_channels(tmp_path, frames, colour):
    array = np.random.default_rng(0).integers(0, 255, (frames, 16, 16, 3)[: 3 + colour], dtype=np.uint8)
    path = write(tmp_path / "a", array if frames > 1 else array[0], "RGB" if colour else "MONOCHROME2")
    values = read_dicom(path).values
    expected = np.moveaxis(array, -1, 0) if colour else array[None]
    assert np.array_equal(values, expected if frames > 1 else expected[:, 0])
    assert values.dtype == np.uint8


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16), (np.int16, 16)])
@pytest.mark.parametrize("tags", [{}, {"RescaleSlope": "2", "RescaleIntercept": "-50"}])
def test_monochrome1_is_inverted_within_its_stored_range(tmp_path, dtype, bits, tags):
    stored = np.arange(256).reshape(16, 16) % 100
    path = write(tmp_path / "a", stored.astype(dtype), "MONOCHROME1", BitsStored=bits, **tags)
    values = read_dicom(path).values[0].astype(float)
    low, high = (-(2**15), 2**15 - 1) if dtype == np.int16 else (0, 2**bits - 1)
    slope, intercept = (2, -50) if tags else (1, 0)
    assert np.array_equal(values, slope * (low + high - stored.astype(float)) + intercept)


@pytest.mark.parametrize("value", [-2000, 63536])
def test_padding_is_no_value(tmp_path, value):
    """Also where it was written unsigned for signed pixels."""
    array = RAMP.astype(np.int16)
    array[:2] = -2000
    tags = {} if value < 0 else {"PixelRepresentation": 1}
    path = write(tmp_path / "a", array, RescaleSlope="1", RescaleIntercept="-1024", **tags)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
    dataset.save_as(path)
    decoded = read_dicom(path)
    assert decoded.values.min() == int(RAMP[2:].min()) - 1024
    assert "padding" in decoded.notes[0]


def test_a_range_of_padding(tmp_path):
    path = write(tmp_path / "a", RAMP, PixelPaddingValue=0, PixelPaddingRangeLimit=800)
    assert read_dicom(path).values.min() == 808


def test_air_beyond_the_scanner_is_air(tmp_path):
    array = RAMP.astype(np.int16)
    array[0] = -2000  # and no tag that states it
    path = write(tmp_path / "a", array, Modality="CT", RescaleSlope="1", RescaleIntercept="-1024")
    decoded = read_dicom(path)
    assert decoded.values.min() == -1024
    assert "-1024 HU" in decoded.notes[0]


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"), [(None, None, 2040), ("2", None, 4080), (None, "-40", 2000), ("", "", 2040)]
)
def test_empty_rescale(tmp_path, slope, intercept, expected):
    path = write(tmp_path / "a", RescaleSlope=slope, RescaleIntercept=intercept)
    assert read_dicom(path).values.max() == expected


def test_palette_of_16_bits(tmp_path):
    ramp = np.array([0, 65535, 0, 0, 32768, 10, 20, 30], "<u2").tobytes()
    colours = ("Red", "Green", "Blue")
    tags = {f"{name}PaletteColorLookupTableDescriptor": [8, 0, 16] for name in colours}
    tags |= {f"{name}PaletteColorLookupTableData": ramp for name in colours}
    values = read_dicom(write(tmp_path / "a", (RAMP % 8 // 8 + 1).astype(np.uint8), "PALETTE COLOR", **tags)).values
    assert values.shape == (3, 16, 16)
    assert values.dtype == np.uint8
    assert values.max() == 255


def test_a_lookup_table_for_the_modality(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.LUTData = np.array([0, 100, 400, 900], "<u2").tobytes()
    path = write(tmp_path / "a", (RAMP // 8 % 4).astype(np.uint16), ModalityLUTSequence=Sequence([table]))
    assert set(np.unique(read_dicom(path).values)) == {0, 100, 400, 900}


def test_names_without_ending_and_what_is_no_image(tmp_path):
    """Files of any name are looked into; indices, reports and segmentations are counted."""
    (tmp_path / "series").mkdir()
    for name in ("IM-0001-0001", "1.2.840.113619.2.55", "scan.IMA", "other.DCM", "I10"):
        write(tmp_path / "series" / name)
    write(tmp_path / "series" / "seg", sop="1.2.840.10008.5.1.4.1.1.66.4")
    report = pydicom.dcmread(tmp_path / "series" / "I10")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    report.save_as(tmp_path / "series" / "report")
    (tmp_path / "series" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "series" / "README").write_text("no image")
    data = load_data(tmp_path / "series")
    assert len(data) == 5
    remarks = " ".join(data.remarks)
    for text in ("DICOM segmentations: 1 (seg)", "DICOM without pixels: 1 (report)", "DICOMDIR", "README"):
        assert text in remarks


def test_a_file_of_the_old_standard_has_no_preamble(tmp_path):
    path = write(tmp_path / "a")
    dataset = pydicom.dcmread(path)
    del dataset.file_meta
    pydicom.dcmwrite(tmp_path / "old", Dataset(dataset), implicit_vr=False, little_endian=True)
    path.unlink()
    write(tmp_path / "new")
    data = load_data(tmp_path)
    assert len(data) == 2
    assert (data.samples[0]["image"] == data.samples[1]["image"]).all()


def test_a_compression_without_its_decoder_names_the_package(tmp_path):
    from pydicom.data import get_testdata_file

    if any(pydicom.pixels.get_decoder(uid).is_available for uid in ("1.2.840.10008.1.2.4.80",)):
        pytest.skip("a decoder of JPEG-LS is installed")
    (tmp_path / "a.dcm").write_bytes(Path(get_testdata_file("MR_small_jpeg_ls_lossless.dcm")).read_bytes())
    with pytest.raises(
        MissingExtraError, match=r"a\.dcm is compressed \(JPEG-LS.*pylibjpeg-libjpeg.*torchgenaug\[codecs\]"
    ):
        load_data(tmp_path)


def test_files_that_are_none_are_named(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"nothing" * 50)
    with pytest.raises(ConfigurationError, match=r"readable as what its name says, got .*x\.dcm"):
        load_data(tmp_path)
    (tmp_path / "x.dcm").unlink()
    write(tmp_path / "seg", sop="1.2.840.10008.5.1.4.1.1.66.4")
    with pytest.raises(EmptyDatasetError, match="DICOM segmentations: 1"):
        load_data(tmp_path)


def test_patients_are_pseudonyms(tmp_path):
    for k, patient in enumerate(("A", "A", "B")):
        write(tmp_path / str(k), RAMP + k, PatientID=patient)
    data = load_data(tmp_path)
    assert data.patients[0] == data.patients[1] != data.patients[2]
    assert not {"A", "B"} & set(data.patients)
