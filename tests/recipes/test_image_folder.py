"""Folders of images and volumes as DATA: kinds of files, layouts, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.data.load import load_data

Image = pytest.importorskip("PIL.Image")


def grey(k=0, size=(16, 16)):
    return np.random.default_rng(k).integers(0, 256, size, dtype=np.uint8)


def save(path, array=None):
    """Writes an array to `path`, whatever its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = grey() if array is None else array
    if path.name.endswith(".npy"):
        np.save(path, array)
    elif path.name.endswith((".tif", ".tiff")):
        pytest.importorskip("tifffile").imwrite(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "npy"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back(tmp_path, ending, channels):
    arrays = [grey(k) if channels == 1 else grey(k, (16, 16, 3)) for k in range(2)]
    for k, array in enumerate(arrays):
        save(tmp_path / f"{k}.{ending}", array)
    data = load_data(str(tmp_path))
    assert data.ids == (f"0.{ending}", f"1.{ending}")
    assert data.fields["image"].value_range == (0, 1)
    for k, array in enumerate(arrays):
        expected = torch.from_numpy(array.reshape(16, 16, channels)).movedim(-1, 0) / 255
        assert torch.equal(data.samples[k]["image"], expected)


def test_sixteen_bits_and_floats_keep_their_unit(tmp_path):
    save(tmp_path / "a" / "0.png", np.arange(256, dtype=np.uint16).reshape(16, 16) * 200)
    save(tmp_path / "b" / "0.tif", np.linspace(-1000, 2000, 256, dtype=np.float32).reshape(16, 16))
    assert load_data(str(tmp_path / "a")).fields["image"].value_range == (0, 51000)
    assert load_data(str(tmp_path / "b")).fields["image"].value_range == (-1000, 2000)


def test_jpeg(tmp_path):
    smooth = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))
    save(tmp_path / "0.jpg", smooth)
    image = load_data(str(tmp_path)).samples[0]["image"]
    assert (image[0] * 255 - torch.from_numpy(smooth)).abs().max() < 12


def test_nifti_volumes_are_turned_to_ras(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).normal(size=(8, 16, 24)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "sub-01_T1w.nii.gz")
    flipped = nibabel.Nifti1Image(volume[::-1].copy(), np.diag([-1, 1, 1, 1]))
    nibabel.save(flipped, tmp_path / "sub-02_T1w.nii")
    data = load_data(str(tmp_path))
    assert data.patients == ("sub-01", "sub-02")
    assert data.image_shape == (1, 8, 16, 24)
    assert torch.equal(data.samples[0]["image"], data.samples[1]["image"])
    assert torch.allclose(data.samples[0]["image"][0], torch.from_numpy(volume))


def test_dicom_images_are_in_hounsfield_units(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    for k, patient in enumerate(("A", "A", "B")):
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.PatientID = patient
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 16, 16, 1
        dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelData = (np.arange(256, dtype=np.uint16) * 8 + k).tobytes()
        dataset.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    data = load_data(str(tmp_path))
    assert data.fields["image"].value_range == (-1024, 255 * 8 + 2 - 1024)
    assert data.patients[0] == data.patients[1] != data.patients[2]
    assert "A" not in data.patients


def test_class_folders(tmp_path):
    for k, name in enumerate(("dog", "cat", "cat")):
        save(tmp_path / name / f"{k}.png", grey(k))
    (tmp_path / "cat" / ".DS_Store").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    data = load_data(str(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert data.labels().tolist() == [0, 0, 1]
    assert data.ids == ("cat/1.png", "cat/2.png", "dog/0.png")


def test_images_with_masks_and_sources(tmp_path):
    for k in range(2):
        save(tmp_path / "images" / f"sub-0{k}" / "x.png", grey(k))
        save(tmp_path / "masks" / f"sub-0{k}" / "x.bmp", (grey(k) > 100).astype(np.uint8) * 255)
        save(tmp_path / "sources" / f"sub-0{k}" / "x.png", grey(k + 9, (16, 16, 3)))
    data = load_data(str(tmp_path))
    assert set(data.fields) == {"image", "mask", "source"}
    assert data.num_mask_classes == 2
    assert data.patients == ("sub-00", "sub-01")
    assert torch.equal(data.samples[1]["mask"][0].bool(), torch.from_numpy(grey(1) > 100))
    assert data.fields["source"].shape == (3, 16, 16)
    assert data.num_classes is None


def test_palette_masks_hold_numbers(tmp_path):
    save(tmp_path / "images" / "a.png")
    picture = Image.fromarray((grey() % 3).astype(np.uint8), mode=None).convert("P")
    picture.putdata((grey() % 3).flatten().tolist())
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    (tmp_path / "masks").mkdir()
    picture.save(tmp_path / "masks" / "a.png")
    data = load_data(str(tmp_path))
    assert torch.equal(data.samples[0]["mask"][0], torch.from_numpy(grey() % 3).long())


def test_table_of_labels(tmp_path):
    for k in range(4):
        save(tmp_path / "images" / f"{k}.png", grey(k))
    rows = ["0.png,ill,a", "1.png,well,a", "images/2.png,ill,b", "3.png,well,c"]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,patient", *rows]))
    data = load_data(str(tmp_path))
    assert data.class_names == ("ill", "well")
    assert data.labels().tolist() == [0, 1, 0, 1]
    assert data.patients == ("a", "a", "b", "c")
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows[:3]]).replace(",a", "").replace(",b", ""))
    with pytest.raises(ConfigurationError, match=r"must name every image, got none for images/3\.png"):
        load_data(str(tmp_path))
    (tmp_path / "labels.csv").write_text("name,class\n")
    with pytest.raises(ConfigurationError, match="must have the columns file and label"):
        load_data(str(tmp_path))
    lines = ["file,label", *(f"{k}.png,{k % 2}" for k in range(5))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    with pytest.raises(ConfigurationError, match=r"got 1 that are not: 4\.png"):
        load_data(str(tmp_path))
    (tmp_path / "labels.csv").write_text("\n".join(lines[:-1]))
    assert load_data(str(tmp_path)).class_names == ()


def test_large_folders_are_read_when_needed(tmp_path, monkeypatch):
    from torchgenaug.recipes.data import scan

    for k in range(6):
        save(tmp_path / str(k % 2) / f"{k}.png", grey(k))
    kept = load_data(str(tmp_path))
    monkeypatch.setattr(scan, "MAX_BYTES_IN_MEMORY", 2000)
    lazy = load_data(str(tmp_path))
    again = pickle.loads(pickle.dumps(lazy.samples))
    for k in range(6):
        assert torch.equal(kept.samples[k]["image"], again[k]["image"])
    assert "read each time" in repr(lazy)


def test_mixed_sizes_want_a_size(tmp_path):
    for k, side in enumerate((16, 16, 30)):
        save(tmp_path / f"{k}.png", grey(k, (side, 20)))
    with pytest.raises(ConfigurationError, match=r"got 1 of another: \(30, 20\) at .*2\.png.*--size 32"):
        load_data(str(tmp_path))
    assert load_data(str(tmp_path), size=32).image_shape == (1, 32, 32)


@pytest.mark.parametrize("grey_first", [True, False])
def test_grey_and_colour_that_is_grey_are_one_kind(tmp_path, grey_first):
    """Programs save X-rays as they like; nothing is lost either way."""
    names = ("a.png", "b.png") if grey_first else ("b.png", "a.png")
    save(tmp_path / names[0], grey(0))
    save(tmp_path / names[1], np.stack([grey(1)] * 3, -1))
    data = load_data(str(tmp_path))
    assert data.image_shape[0] == (1 if grey_first else 3)
    for k, name in enumerate(names):
        image = data.samples[data.ids.index(name)]["image"]
        assert torch.equal(image[0], torch.from_numpy(grey(k)) / 255)
    assert "read as grey" in " ".join(data.remarks) or "as the other images are" in " ".join(data.remarks)


def test_refused_folders(tmp_path):
    with pytest.raises(EmptyDatasetError, match="must hold images"):
        load_data(str(tmp_path))

    save(tmp_path / "one" / "cat" / "a.png")
    with pytest.raises(ConfigurationError, match="only 'cat'"):
        load_data(str(tmp_path / "one"))

    for name in ("train", "test"):
        save(tmp_path / "parts" / name / "a.png")
    with pytest.raises(ConfigurationError, match=r"one part of a split, .*Give .*test"):
        load_data(str(tmp_path / "parts"))

    save(tmp_path / "broken" / "a.png")
    (tmp_path / "broken" / "b.png").write_bytes(b"no picture")
    with pytest.raises(ConfigurationError, match=r"readable as what its name says, got .*b\.png"):
        load_data(str(tmp_path / "broken"))

    save(tmp_path / "colours" / "a.png")
    save(tmp_path / "colours" / "b.png", grey(0, (16, 16, 3)))
    with pytest.raises(ConfigurationError, match=r"grey, 2D\), got colour, 2D: .*b\.png"):
        load_data(str(tmp_path / "colours"))

    save(tmp_path / "nan" / "a.npy", np.full((16, 16), np.nan, np.float32))
    with pytest.raises(ConfigurationError, match=r"256 NaN or infinite values at .*a\.npy"):
        load_data(str(tmp_path / "nan"))

    save(tmp_path / "twice" / "a.png")
    save(tmp_path / "twice" / "a.bmp")
    with pytest.raises(ConfigurationError, match=r"distinct, got a\.bmp and a\.png"):
        load_data(str(tmp_path / "twice"))

    save(tmp_path / "some" / "sub-1.png")
    save(tmp_path / "some" / "other.png")
    with pytest.raises(ConfigurationError, match=r"1 known, 1 not: other\.png"):
        load_data(str(tmp_path / "some"))

    with pytest.raises(ConfigurationError, match="which is a file"):
        load_data(str(tmp_path / "some" / "other.png"))

    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "hostile").mkdir()
    (tmp_path / "pickled.npy").rename(tmp_path / "hostile" / "a.npy")
    with pytest.raises(ConfigurationError, match="allow_pickle=False"):
        load_data(str(tmp_path / "hostile"))


def test_refused_masks(tmp_path):
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "b.png")
    with pytest.raises(ConfigurationError, match=r"partner of the same name .* no image for 1 masks: masks/b\.png"):
        load_data(str(tmp_path))
    save(tmp_path / "masks" / "a.png")
    with pytest.raises(ConfigurationError, match=r"partner of the same name .* no image for 1 masks: masks/b\.png"):
        load_data(str(tmp_path))
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(ConfigurationError, match=r"at most 64 different values, got more by .*a\.png"):
        load_data(str(tmp_path))
    save(tmp_path / "masks" / "a.png", grey(0, (16, 16, 3)))
    with pytest.raises(ConfigurationError, match=r"at most 64 different values, got more by .*a\.png: #"):
        load_data(str(tmp_path))
    save(tmp_path / "masks" / "a.png", grey(0, (8, 8)) % 2)
    with pytest.raises(ConfigurationError, match=r"size of its image, \(1, 16, 16\), got \(1, 8, 8\)"):
        load_data(str(tmp_path))
