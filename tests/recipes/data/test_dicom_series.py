"""Slices of DICOM series become volumes in the order and the orientation that their positions state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pydicom")
from tests.recipes.data.dicom_files import AXIAL, generate_uid, write_series, write_slice
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.folder import FolderSamples
from torchgenaug.recipes.data.layout import read_layout
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.selection import Selection

STACK = Selection(volumes=True)


def volume(slices=5, rows=8, columns=6, seed=0):
    return np.random.default_rng(seed).integers(-500, 900, (slices, rows, columns)).astype(np.int16)


def stacked(folder):
    layout = read_layout(folder, STACK)
    return layout, FolderSamples(layout.records)


AXES = [
    AXIAL,
    (-1, 0, 0, 0, -1, 0),
    (0, 1, 0, 0, 0, -1),
    (1, 0, 0, 0, 0, -1),
    (0.93969, 0.34202, 0, -0.34202, 0.93969, 0),
]


@pytest.mark.parametrize("axes", AXES)
def test_a_series_is_the_volume_that_simpleitk_reads(tmp_path, axes):
    sitk = pytest.importorskip("SimpleITK")
    write_series(tmp_path, volume(), axes=axes)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = sitk.DICOMOrient(reader.Execute(), "RAS")
    _, samples = stacked(tmp_path)
    assert np.array_equal(samples[0]["image"][0], sitk.GetArrayFromImage(image).T)
    assert np.allclose(read_spacing(tmp_path), image.GetSpacing())


def read_spacing(folder):
    from torchgenaug.recipes.data.files import read_image

    return read_image(read_layout(folder, STACK).records[0].image).spacing_mm


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_names_folders_and_orders_give_the_same_volumes(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("series")
    ending = data.draw(st.sampled_from(["", ".dcm", ".IMA", ".DCM"]))
    depth = data.draw(st.integers(0, 2))
    for patient in range(2):
        names = data.draw(st.permutations([f"I{k:02}{ending}" for k in range(4)]))
        folder = root / f"PAT{patient:03}" / "/".join(["study", "series"][:depth])
        write_series(folder, volume(4, seed=patient), names, AXES[patient], patient=f"{patient}")
    layout, samples = stacked(root)
    assert len(samples) == 2
    for patient in range(2):
        found, expected = (
            np.sort(samples[patient]["image"].numpy(), axis=None),
            np.sort(volume(4, seed=patient), axis=None),
        )
        assert np.array_equal(found, expected)
    assert np.array_equal(samples[0]["image"][0], volume(4, seed=0)[:, ::-1, ::-1].T)
    assert "Slices of 2 DICOM series were stacked into volumes of 4 slices." in layout.remarks
    assert len({each.patient for each in layout.records}) == 2


def test_slices_stay_images_without_the_option_and_this_is_stated(tmp_path):
    write_series(tmp_path, volume())
    data = load_data(tmp_path)
    assert (len(data), data.spatial_dims) == (5, 2)
    assert any("--volumes (volumes=True)" in remark for remark in data.remarks)


@pytest.mark.parametrize("asked", [{"volumes": True}, {"size": (8, 8, 8)}])
def test_three_numbers_ask_for_volumes(tmp_path, asked):
    write_series(tmp_path, volume())
    assert load_data(tmp_path, **asked).spatial_dims == 3


def test_two_slices_at_one_place_are_named(tmp_path):
    series, positions = write_series(tmp_path, volume())
    write_slice(tmp_path / "second_echo.dcm", volume()[0], series, positions[2])
    with pytest.raises(ConfigurationError, match=r"at a place of its own.*second_echo\.dcm"):
        stacked(tmp_path)


def test_a_copy_of_a_slice_is_left_out_and_counted(tmp_path):
    write_series(tmp_path, volume())
    (tmp_path / "copy of IM000.dcm").write_bytes((tmp_path / "IM000.dcm").read_bytes())
    layout, samples = stacked(tmp_path)
    assert samples[0]["image"].shape[-1] == 5
    assert any("copies of DICOM slices: 1" in remark for remark in layout.remarks)


def test_a_missing_slice_is_named_by_its_neighbours(tmp_path):
    write_series(tmp_path, volume(), [f"{k}.dcm" for k in range(5)])
    (tmp_path / "2.dcm").unlink()
    with pytest.raises(ConfigurationError, match=r"1 gap other than 2\.5 mm: 5 mm between 1\.dcm and 3\.dcm"):
        stacked(tmp_path)


def test_localizers_are_put_aside(tmp_path):
    write_series(tmp_path, volume())
    write_slice(tmp_path / "scout.dcm", volume()[0], generate_uid(), (0, 0, 0))
    layout, samples = stacked(tmp_path)
    assert len(samples) == 1
    assert any("single DICOM slices" in remark and "scout.dcm" in remark for remark in layout.remarks)


@pytest.mark.parametrize("tag", ["SliceLocation", "InstanceNumber"])
def test_slices_without_positions_are_sorted_by_what_they_state(tmp_path, tag):
    array, series = volume(), generate_uid()
    for k, name in enumerate("dbeca"):
        write_slice(tmp_path / name, array[k], series, None, **{tag: 3 * k + 1})
    layout, samples = stacked(tmp_path)
    assert np.array_equal(samples[0]["image"][0], array[:, ::-1, ::-1].T)
    assert any("sorted by" in note for note in layout.records[0].image[0].notes)


def test_slices_that_state_no_order_are_refused(tmp_path):
    series = generate_uid()
    for k in range(3):
        write_slice(tmp_path / f"{k}", volume()[k], series, None)
    with pytest.raises(ConfigurationError, match="must state its position"):
        stacked(tmp_path)


def test_volumes_need_a_series_of_several_slices(tmp_path):
    for k in range(3):
        write_slice(tmp_path / f"{k}.dcm", volume()[k], generate_uid(), (0, 0, 0))
    with pytest.raises(ConfigurationError, match="Leave --volumes out"):
        stacked(tmp_path)


def test_masks_of_slices_are_stacked_with_them(tmp_path):
    from tests.recipes.data.files_of_layouts import put

    names = ["c", "a", "b", "e", "d"]
    write_series(tmp_path / "images", volume(), [f"{name}.dcm" for name in names])
    for k, name in enumerate(names):
        mask = np.zeros((8, 6), np.uint8)
        mask[: k + 1, :2] = 255
        put(tmp_path, f"masks/{name}.png", mask)
    _, samples = stacked(tmp_path)
    assert [int((samples[0]["mask"][0, ..., k] > 0).sum()) for k in range(5)] == [2, 4, 6, 8, 10]


def test_slices_of_two_classes_are_no_volume(tmp_path):
    series, positions = generate_uid(), [(0, 0, float(k)) for k in range(4)]
    for k, position in enumerate(positions):
        write_slice(tmp_path / ("benign" if k % 2 else "malignant") / f"{k}.dcm", volume()[k], series, position)
    with pytest.raises(ConfigurationError, match="one class to be a volume"):
        stacked(tmp_path)
