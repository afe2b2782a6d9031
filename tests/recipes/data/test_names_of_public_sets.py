"""Layouts whose names do not show at once what belongs together; the advice of each refusal is executed."""

from __future__ import annotations

import re

import numpy as np
import pytest
from files_of_layouts import area, box, noise, put

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.selection import Glob
from torchgenaug.recipes.data.suspicion import parting_globs


def write(root, names):
    """Images, and masks where an array is given."""
    for name, array in names.items():
        put(root, name, array)


NUMBERED = {
    "etis": ("ETIS/{}.png", "Ground Truth/p{}.png"),
    "cell tracking": ("01/t{:03}.png", "01_GT/SEG/man_seg{:03}.png"),
    "lidc": ("Image/LIDC-IDRI-{0:04}/{0:04}_NI000_slice000.png", "Mask/LIDC-IDRI-{0:04}/{0:04}_MA000_slice000.png"),
}


@pytest.mark.parametrize("layout", NUMBERED)
def test_masks_are_matched_by_numbers_alone(tmp_path, layout):
    image, mask = NUMBERED[layout]
    for k in (1, 2, 10):
        put(tmp_path, image.format(k))
        put(tmp_path, mask.format(k), area(str(k), 255))
    data = load_data(tmp_path)
    assert (len(data), data.num_mask_classes) == (3, 2)
    by_id = {int(re.findall(r"\d+", each.rpartition("/")[2])[0]): row for row, each in enumerate(data.ids)}
    for k in (1, 2, 10):
        assert np.array_equal(data[by_id[k]]["mask"][0].numpy() * 255, area(str(k), 255))


def test_frames_of_videos(tmp_path):
    for video in range(2):
        for k in range(2):
            put(tmp_path, f"video_{video:02}/frame/{k:05}.png")
            put(tmp_path, f"video_{video:02}/mask/{k:05}.png", area(f"{video}{k}"))
    data = load_data(tmp_path)
    assert (len(data), data.num_mask_classes) == (4, 2)
    assert np.array_equal(data[3]["mask"][0].numpy() * 255, area("11"))


def test_numbers_that_come_twice_match_nothing(tmp_path):
    write(tmp_path, {"scans/a1.png": None, "scans/b1.png": None, "masks/m1.png": area("m")})
    with pytest.raises(ConfigurationError, match="no image for 1 masks"):
        load_data(tmp_path)


def test_several_kinds_of_masks_are_united_where_the_user_names_them(tmp_path):
    for k in range(3):
        put(tmp_path, f"cxr/{k}.png")
        left, right = np.zeros((2, 16, 16), np.uint8)
        left[2:10, 1:6], right[2:10, 9:15] = 255, 255
        put(tmp_path, f"ManualMask/leftMask/{k}.png", left)
        put(tmp_path, f"ManualMask/rightMask/{k}.png", right)
    with pytest.raises(ConfigurationError, match="masks of one kind") as caught:
        load_data(tmp_path)
    (pattern,) = re.findall(r"united: --masks '([^']*)'", str(caught.value))
    data = load_data(tmp_path, masks=pattern)
    assert int((data[0]["mask"] > 0).sum()) == 8 * 5 + 8 * 6
    assert any("were united" in text for text in data.remarks)


def test_the_contrast_that_is_advised_is_there_for_all(tmp_path):
    for k in range(3):
        for contrast in ("flair", "t1", "t2"):
            put(tmp_path, f"p{k:03}/p{k:03}_{contrast}.nii.gz")
        put(tmp_path, f"p{k:03}/p{k:03}_seg.nii.gz", box(str(k)))
    (tmp_path / "p001/p001_flair.nii.gz").unlink()
    with pytest.raises(ConfigurationError, match="fewer for 1 of 3") as caught:
        load_data(tmp_path)
    (pattern,) = re.findall(r"--images '([^']*)'", str(caught.value))
    assert load_data(tmp_path, images=pattern).image_shape[0] == 1


def test_masks_in_each_folder_with_names_of_their_own(tmp_path):
    """The left atrium of 2018: lgemri and laendo in a folder per patient."""
    for name in ("0RZDK210", "1D7CUD1955"):
        put(tmp_path, f"{name}/lgemri.nrrd")
        put(tmp_path, f"{name}/laendo.nrrd", box(name, 255).astype(np.uint8))
    with pytest.raises(ConfigurationError, match="hold few values") as caught:
        load_data(tmp_path)
    images, masks = re.findall(r"masks of the others: --images '([^']*)' --masks '([^']*)'", str(caught.value))[0]
    data = load_data(tmp_path, images=images, masks=masks)
    assert (len(data), data.num_mask_classes, len(set(data.patients))) == (2, 2, 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["1/a.png", "2/a.png"], ["1/b.png", "2/b.png"]),
        (["1/x/0.png", "2/x/0.png"], ["1/y/0.png", "2/y/0.png"]),
        (["s/flair.nii", "t/t1.nii"], ["s/wmh.nii", "t/wmh.nii"]),
    ],
)
def test_globs_part_what_names_or_folders_part(first, second):
    one, other = map(Glob, parting_globs(first, second))
    assert (one.keep([*first, *second]), other.keep([*first, *second])) == (set(first), set(second))


def test_versions_of_the_same_images_are_refused(tmp_path):
    for folder in ("images", "images_resized"):
        for k in range(3):
            put(tmp_path, f"{folder}/{k}.png")
    with pytest.raises(ConfigurationError, match="versions of the same images") as caught:
        load_data(tmp_path)
    (pattern,) = re.findall(r"--images '([^']*)'", str(caught.value))
    assert len(load_data(tmp_path, images=pattern)) == 3


def test_folders_of_one_image_each_are_no_classes(tmp_path):
    for name in ("APY9KQJ", "BXX10Q1"):
        put(tmp_path, f"{name}/scan.npy")
    data = load_data(tmp_path)
    assert (data.num_classes, len(set(data.patients))) == (None, 2)
    for grade in range(2):
        put(tmp_path / "graded", f"grade_{grade}/scan.npy")
    assert load_data(tmp_path / "graded").num_classes == 2


def test_slices_in_a_folder_per_volume_are_of_one_patient(tmp_path):
    for k in range(2):
        for number in range(3):
            put(tmp_path, f"volume_{k:03}/slice_{number}.png")
    assert len(set(load_data(tmp_path).patients)) == 2


def test_a_split_in_the_names_of_files_is_stated(tmp_path):
    for part in ("train", "testA"):
        for k in range(3):
            put(tmp_path, f"{part}_{k}.png")
    assert any("parts of a split, which were read together: test 3, train 3" in t for t in load_data(tmp_path).remarks)


def test_tables_of_other_files_are_left_out(tmp_path):
    for k in range(4):
        put(tmp_path, f"train/a{k}.png")
        put(tmp_path, f"test/b{k}.png")
    (tmp_path / "train_labels.csv").write_text("id,label\n" + "\n".join(f"a{k},{k % 2}" for k in range(4)))
    (tmp_path / "sample_submission.csv").write_text("id,label\n" + "\n".join(f"b{k},0" for k in range(4)))
    data = load_data(tmp_path, images="train/*.png")
    assert data.num_classes == 2
    assert any("sample_submission.csv was not used" in text for text in data.remarks)


def test_reconstructions_of_fastmri(tmp_path):
    h5py = pytest.importorskip("h5py")
    for k in range(2):
        with h5py.File(tmp_path / f"file100000{k}.h5", "w") as file:
            file["kspace"] = np.ones((8, 16, 16), np.complex64)
            file["reconstruction_rss"] = noise(str(k), (8, 16, 16)).astype(np.float32)
            file["reconstruction_esc"] = noise(f"{k}e", (8, 16, 16)).astype(np.float32)
    data = load_data(tmp_path)
    assert np.array_equal(data[0]["image"][0].numpy(), noise("0", (8, 16, 16)))
    assert any("reconstruction_esc" in text for text in data.remarks)
