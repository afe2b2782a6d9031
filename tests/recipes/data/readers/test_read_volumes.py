"""NIfTI, Analyze, FreeSurfer, MetaImage, NRRD: axes, orientation, spacing, odd types."""

from __future__ import annotations

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel")
sitk = pytest.importorskip("SimpleITK")

from torchgenaug.errors import ConfigurationError  # noqa: E402
from torchgenaug.recipes.data.files import READERS, suffix_of  # noqa: E402
from torchgenaug.recipes.data.load import load_data  # noqa: E402
from torchgenaug.recipes.data.readers.nifti import read_nifti  # noqa: E402

SHAPE = (8, 10, 12)
VOLUME = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
FLIPPED = np.diag([-2.0, 3.0, 4.0, 1.0])


def image(array=VOLUME, affine=FLIPPED):
    return nibabel.Nifti1Image(array, affine)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mgz", ".mha", ".mhd", ".nrrd", ".nhdr", ".gipl"])
def test_a_volume_is_the_same_in_every_format(tmp_path, ending):
    """In RAS+ order, with its spacing, whoever wrote it."""
    nibabel.save(image(), tmp_path / "a.nii")
    path = tmp_path / f"b{ending}"
    if ending.startswith(".n") and ending not in (".nrrd", ".nhdr"):
        nibabel.save(image(), path)
    elif ending.startswith(".mg"):
        nibabel.save(nibabel.MGHImage(VOLUME.astype(np.int32), FLIPPED), path)
    else:
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii")), str(path))
    decoded = READERS[suffix_of(path)](path)
    if ending != ".gipl":  # which keeps no directions
        assert np.array_equal(decoded.values[0], VOLUME[::-1])
    assert decoded.values.shape == (1, *SHAPE)
    assert decoded.spacing_mm == (2, 3, 4)
    assert decoded.x_first


def test_analyze(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(VOLUME, np.eye(4)), tmp_path / "a.img")
    nibabel.save(nibabel.AnalyzeImage(VOLUME, np.eye(4)), tmp_path / "b.img")
    (tmp_path / "c.img").write_bytes(b"no header")
    data = load_data(tmp_path)
    assert len(data) == 2
    assert ".img files without their .hdr: 1 (c.img)" in " ".join(data.remarks)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((8, 8, 8, 2), np.float32), (2, 8, 8, 8)),
        (np.zeros((8, 8, 8, 1), np.float32), (1, 8, 8, 8)),
        (np.zeros((8, 8, 8, 1, 3), np.float32), (3, 8, 8, 8)),
        (np.zeros((8, 8, 8, 1, 1), np.float32), (1, 8, 8, 8)),
        (np.zeros((8, 8, 1), np.float32), (1, 8, 8)),
        (np.zeros((8, 8, 1, 3), np.float32), (3, 8, 8)),
        (np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")]), (3, 8, 8, 8)),
        (np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]), (3, 8, 8, 8)),
    ],
)
def test_axes_of_nifti(tmp_path, array, expected):
    nibabel.save(image(array, np.eye(4)), tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").values.shape == expected


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 8, 8), np.complex64), "complex numbers"),
        (np.zeros((8, 8, 8, 30), np.float32), "a series"),
        (np.zeros((8, 8, 8, 2, 3), np.float32), "a series"),
    ],
)
def test_refused_volumes_are_named(tmp_path, array, message):
    nibabel.save(image(array), tmp_path / "a.nii")
    with pytest.raises(ConfigurationError, match=rf"a\.nii: .*{message}"):
        load_data(tmp_path)


@pytest.mark.parametrize("ending", ["nii.gz", "mha", "npy"])
def test_nan_outside_of_the_body(tmp_path, ending):
    array = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    array[:3] = np.nan
    if ending == "npy":
        np.save(tmp_path / "a.npy", array)
    elif ending == "mha":
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "a.mha"))
    else:
        nibabel.save(image(array), tmp_path / "a.nii.gz")
    data = load_data(tmp_path)
    assert data.samples[0]["image"].min() == np.nanmin(array)
    assert "NaN values were replaced" in " ".join(data.remarks)


def test_infinite_values_are_refused(tmp_path):
    array = VOLUME.astype(np.float32)
    array[0, 0, 0] = np.inf
    nibabel.save(image(array), tmp_path / "a.nii")
    with pytest.raises(ConfigurationError, match=r"1 NaN or infinite values at .*a\.nii"):
        load_data(tmp_path)


def test_colours_and_series_of_itk(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "a.mha"))
    assert READERS[".mha"](tmp_path / "a.mha").values.shape == (3, 12, 16)
    series = sitk.JoinSeries([sitk.GetImageFromArray(VOLUME)] * 2)
    sitk.WriteImage(series, str(tmp_path / "b.nrrd"))
    with pytest.raises(ValueError, match="a series"):
        READERS[".nrrd"](tmp_path / "b.nrrd")


def test_float_labels(tmp_path):
    """Segmentations that some program saved as floats, not quite whole."""
    labels = (VOLUME > 450).astype(np.float32) * 2.0000002
    nibabel.save(image(), tmp_path / "a.nii")
    nibabel.save(image(labels), tmp_path / "a_seg.nii")
    data = load_data(tmp_path)
    assert data.num_mask_classes == 3
    assert set(data.samples[0]["mask"].unique().tolist()) == {0, 2}


def test_a_mask_without_an_orientation_is_refused_where_it_would_be_mirrored(tmp_path):
    """Programs that save masks as `Nifti1Image(mask, numpy.eye(4))` lose it."""
    mask = (VOLUME > 800).astype(np.uint8)
    nibabel.save(image(), tmp_path / "a.nii")
    nibabel.save(image(mask, np.eye(4)), tmp_path / "a_seg.nii")
    with pytest.raises(
        ConfigurationError, match=r"orientation of its image, got RAS\? of .*a_seg.* for an image of LAS"
    ):
        load_data(tmp_path)
    nibabel.save(image(mask), tmp_path / "a_seg.nii")
    sample = load_data(tmp_path).samples[0]
    inside = sample["image"][0, :8, 3:13, 2:14].numpy() > 800  # 8 x 10 x 12 in the middle of 8 x 16 x 16
    assert np.array_equal(sample["mask"][0, :8, 3:13, 2:14].numpy(), inside)
    nibabel.save(image(mask[::-1], np.diag([2.0, 3, 4, 1])), tmp_path / "a_seg.nii")  # another one, that is stated
    again = load_data(tmp_path).samples[0]
    assert np.array_equal(sample["mask"].numpy(), again["mask"].numpy())


def test_pictures_and_volumes_have_other_axes(tmp_path):
    picture = pytest.importorskip("PIL.Image")
    draw = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
    picture.fromarray(draw).save(tmp_path / "a.png")
    nibabel.save(image((draw > 99).astype(np.uint8)[..., None]), tmp_path / "a_mask.nii")
    with pytest.raises(ConfigurationError, match=r"axes in one order.*a_mask\.nii"):
        load_data(tmp_path)


def test_a_compressed_volume_without_its_ending(tmp_path):
    nibabel.save(image(), tmp_path / "b.nii.gz")
    (tmp_path / "b.nii.gz").rename(tmp_path / "a.nii")
    nibabel.save(image(), tmp_path / "c.nii")
    decoded = read_nifti(tmp_path / "a.nii")
    assert np.array_equal(decoded.values, read_nifti(tmp_path / "c.nii").values)
    assert any("compressed" in note for note in decoded.notes)


def test_orientations_that_spm_writes_next_to_volumes_are_no_samples(tmp_path):
    for k in range(2):
        nibabel.save(nibabel.Spm99AnalyzeImage(VOLUME, FLIPPED), tmp_path / f"{k}.img")
    assert (tmp_path / "0.mat").exists()
    assert len(load_data(str(tmp_path))) == 2
