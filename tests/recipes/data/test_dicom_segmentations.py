"""DICOM segmentation objects are the masks of the images at whose places their frames lie."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pydicom")
from tests.recipes.data.dicom_files import generate_uid, write_enhanced, write_segmentation, write_series
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.folder import FolderSamples
from torchgenaug.recipes.data.layout import read_layout
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.selection import Selection

SLICES = 4


def volume():
    return np.random.default_rng(0).integers(-500, 900, (SLICES, 8, 8)).astype(np.int16)


def drawn(rows):
    mask = np.zeros((8, 8))
    mask[:rows, 1:5] = 1
    return mask


def write(root, kind="BINARY", stated=True, labels=None, **changes):
    """Segment 1 in slices 1 and 2, segment 2 in slice 2, over a part of segment 1."""
    series, positions = write_series(root, volume(), [f"{k}.dcm" for k in range(SLICES)])
    frames = {"masks": [drawn(4), drawn(6), drawn(2)], "positions": [positions[k] for k in (1, 2, 2)]}
    frames["numbers"] = [1, 1, 2]
    if kind == "LABELMAP":
        frames = {
            "masks": [drawn(4), np.maximum(drawn(6), 2 * drawn(2))],
            "positions": positions[1:3],
            "numbers": [0, 0],
        }
    frames |= changes
    write_segmentation(root / "lesion.seg.dcm", series if stated else "", labels=labels or {1: "organ", 2: "lesion"},
                       kind=kind, **frames)  # fmt: skip
    return series, positions


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("stated", [True, False])
def test_frames_lie_on_their_slices(tmp_path, kind, stated):
    write(tmp_path, kind, stated)
    data = load_data(tmp_path)
    masks = [data.samples[k]["mask"][0].numpy() for k in range(SLICES)]
    assert not masks[0].any()
    assert not masks[3].any()
    assert np.array_equal(masks[1], drawn(4))
    assert np.array_equal(masks[2], np.maximum(drawn(6), 2 * drawn(2)))
    assert any("classes 1 organ, 2 lesion" in remark for remark in data.remarks)


def test_frames_of_an_enhanced_image_get_their_segments(tmp_path):
    """One multi-frame file holds all slices; the segmentation names places in another order, and leaves some out."""
    for patient in ("one", "two"):
        uid, positions = write_enhanced(tmp_path / f"case_{patient}" / "enhanced.dcm", volume(), patient)
        frames = {"masks": [drawn(6), drawn(4)], "positions": [positions[2], positions[0]], "numbers": [1, 1]}
        write_segmentation(tmp_path / f"case_{patient}" / "seg.dcm", uid, labels={1: "liver"}, **frames)
    records = read_layout(tmp_path).records
    assert len(records) == 2
    masks = FolderSamples(records)[1]["mask"][0].numpy()
    assert masks.shape == (SLICES, 8, 8)
    assert np.array_equal(masks[0], drawn(4))
    assert np.array_equal(masks[2], drawn(6))
    assert not masks[[1, 3]].any()


def test_a_volume_and_its_mask_have_one_orientation(tmp_path):
    write(tmp_path)
    layout = read_layout(tmp_path, Selection(volumes=True))
    sample = FolderSamples(layout.records)[0]
    mask = sample["mask"][0].numpy()
    assert np.array_equal(sample["image"][0], volume()[:, ::-1, ::-1].T)
    # Rows go to the back and columns to the left in the files; in RAS+ both are reversed.
    assert np.array_equal(mask[..., 1], drawn(4)[::-1, ::-1].T)


def test_one_segment_of_another_number_is_class_one(tmp_path):
    write(tmp_path, labels={7: "nodule"}, masks=[drawn(4)], numbers=[7], positions=[(-5, -7, 5.5)])
    assert load_data(tmp_path).num_mask_classes == 2


def test_objects_that_number_segments_differently_agree_by_label(tmp_path):
    series, positions = write(tmp_path)
    write_segmentation(tmp_path / "b.seg.dcm", series, [drawn(3)], positions[3:], [1], {1: "tumour"})
    write_segmentation(tmp_path / "c.seg.dcm", series, [drawn(3)], positions[:1], [3], {3: "organ"})
    data = load_data(tmp_path)
    assert any("by their labels" in remark and "1 lesion, 2 organ, 3 tumour" in remark for remark in data.remarks)
    assert [int(data.samples[k]["mask"].max()) for k in range(SLICES)] == [2, 2, 2, 3]


def test_masks_can_be_left_out(tmp_path):
    write(tmp_path)
    data = load_data(tmp_path, masks="none")
    assert "mask" not in data.fields
    assert any("DICOM segmentations: 1 (lesion.seg.dcm)" in remark for remark in data.remarks)


def test_images_without_a_segmentation_are_named_and_the_advice_works(tmp_path):
    write(tmp_path)
    write_series(tmp_path / "other", volume())
    with pytest.raises(ConfigurationError, match=r"none for 4 of 8.*--masks '\*\.dcm'"):
        load_data(tmp_path, folders="ignore")
    assert len(load_data(tmp_path, folders="ignore", masks="*.dcm")) == SLICES
    assert len(load_data(tmp_path, folders="ignore", masks="none")) == 2 * SLICES


def test_a_segmentation_of_another_series_is_counted(tmp_path):
    _, positions = write_series(tmp_path, volume())
    write_segmentation(tmp_path / "s.dcm", generate_uid(), [drawn(3)], positions[:1], [1], {1: "x"})
    data = load_data(tmp_path)
    assert "mask" not in data.fields
    assert any("DICOM segmentations: 1" in remark for remark in data.remarks)


@pytest.mark.parametrize(("changes", "text"), [
    ({"positions": [(-5, -7, 5.5), (-5, -4, 8.0), (-5, -7, 8.0)]}, r"frame 2 .* 3 mm away"),
    ({"axes": (0, 1, 0, 1, 0, 0)}, "turned"),
    ({"masks": [np.zeros((4, 8))] * 3}, "rows and columns"),
])  # fmt: skip
def test_frames_on_another_grid_are_refused(tmp_path, changes, text):
    write(tmp_path, **changes)
    with pytest.raises(ConfigurationError, match=text):
        load_data(tmp_path)
