from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from torchgenaug.errors import ConfigurationError, MissingExtraError
from torchgenaug.pictures import contact_sheet
from torchgenaug.types import FieldSpec

IMAGE = FieldSpec((1, 16, 16), value_range=(-1, 1))
MASK = FieldSpec((1, 16, 16), torch.int64, kind="label_map")
ORANGE, BLUE = (230, 159, 0), (86, 180, 233)


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def holds(sheet, colour):
    return int((sheet == np.array(colour)).all(-1).sum())


def test_images_are_grey_by_the_value_range(tmp_path):
    samples = [{"image": torch.full((1, 16, 16), value)} for value in (-1.0, 0.0, 1.0)]
    sheet = pixels(contact_sheet(samples, {"image": IMAGE}, tmp_path / "a.png"))
    for grey in (0, 127, 255):
        assert holds(sheet, (grey, grey, grey)) >= 128 * 128


def test_without_a_range_the_sheet_decides(tmp_path):
    spec = FieldSpec((1, 16, 16))
    values = torch.linspace(100, 200, 256).reshape(1, 16, 16)
    values[0, 0, 0] = 1e6  # one outlier must not turn the rest black
    sheet = pixels(contact_sheet([{"image": values}], {"image": spec}, tmp_path / "a.png"))
    grey = sheet[(sheet[..., 0] == sheet[..., 1]) & (sheet[..., 1] == sheet[..., 2])]
    assert grey.max() == 255
    assert 80 < np.median(grey[grey > 40]) < 200
    contact_sheet([{"image": torch.zeros(1, 16, 16)}], {"image": spec}, tmp_path / "constant.png")


def test_masks_have_fixed_colours_and_stand_beside_the_image(tmp_path):
    mask = torch.zeros(1, 16, 16, dtype=torch.int64)
    mask[0, :8], mask[0, 8:12] = 1, 2
    sample = {"image": torch.zeros(1, 16, 16), "mask": mask}
    sheet = pixels(contact_sheet([sample], {"image": IMAGE, "mask": MASK}, tmp_path / "a.png"))
    assert holds(sheet, ORANGE) == 128 * 64
    assert holds(sheet, BLUE) == 128 * 32
    assert holds(sheet, (127, 127, 127)) == 128 * 128
    far = torch.full((1, 16, 16), 1000)
    assert holds(pixels(contact_sheet([{"mask": far}], {"mask": MASK}, tmp_path / "b.png")), (28, 28, 32)) == 0


def test_marks_frame_the_samples(tmp_path):
    samples = [{"image": torch.zeros(1, 16, 16)}] * 2
    plain = pixels(contact_sheet(samples, {"image": IMAGE}, tmp_path / "a.png"))
    marked = pixels(contact_sheet(samples, {"image": IMAGE}, tmp_path / "b.png", marks=["real", "synthetic"]))
    for colour in (BLUE, ORANGE):
        assert holds(plain, colour) == 0
        assert holds(marked, colour) > 4 * 128


def test_quarter_turns_are_counter_clockwise(tmp_path):
    image = -torch.ones(1, 16, 16)
    image[0, :, 15] = 1  # the right edge becomes the top edge
    sheet = pixels(contact_sheet([{"image": image}], {"image": IMAGE}, tmp_path / "a.png", rotate=1))
    rows, columns = np.nonzero((sheet == 255).all(-1))
    assert np.ptp(columns) > 100
    assert np.ptp(rows) < 12


def test_colours_volumes_and_thin_axes(tmp_path):
    colour = {"image": torch.stack([torch.full((8, 8), value) for value in (1.0, 0.0, 0.5)])}
    spec = FieldSpec((3, 8, 8), value_range=(0, 1))
    assert holds(pixels(contact_sheet([colour], {"image": spec}, tmp_path / "a.png")), (255, 0, 127)) == 128 * 128
    volume = FieldSpec((1, 8, 12, 16), value_range=(0, 1))
    three = pixels(contact_sheet([{"image": torch.ones(1, 8, 12, 16)}], {"image": volume}, tmp_path / "b.png"))
    scaled = [(8 * 11, 12 * 11), (8 * 8, 16 * 8), (12 * 8, 16 * 8)]
    assert holds(three, (255, 255, 255)) == sum(height * width for height, width in scaled)
    flat = FieldSpec((1, 8, 8, 1), value_range=(0, 1))
    one = pixels(contact_sheet([{"image": torch.ones(1, 8, 8, 1)}], {"image": flat}, tmp_path / "c.png"))
    assert holds(one, (255, 255, 255)) == 128 * 128


def test_captions_and_columns(tmp_path):
    fields = {"image": IMAGE, "label": FieldSpec((), torch.int64, kind="scalar")}
    bare = [{"image": torch.zeros(1, 16, 16)}] * 6
    told = [sample | {"label": torch.tensor(3), "id": 7, "seed": 2**64 - 1} for sample in bare]
    plain = pixels(contact_sheet(bare, fields, tmp_path / "a.png", columns=2))
    assert pixels(contact_sheet(told, fields, tmp_path / "b.png", columns=2)).shape[0] > plain.shape[0]
    wide = pixels(contact_sheet(bare, fields, tmp_path / "c.png", columns=6))
    assert wide.shape[1] > 2 * plain.shape[1]
    assert wide.shape[0] < plain.shape[0]


def test_torchio_images_and_odd_dtypes(tmp_path):
    import torchio as tio

    fields = {"image": FieldSpec((1, 8, 8, 1), value_range=(0, 1)), "half": FieldSpec((1, 8, 8), torch.bfloat16)}
    sample = {"image": tio.ScalarImage(tensor=torch.ones(1, 8, 8, 1)), "half": torch.rand(1, 8, 8).bfloat16()}
    assert holds(pixels(contact_sheet([sample], fields, tmp_path / "a.png")), (255, 255, 255)) >= 128 * 128


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        ([], {}, "got 0 samples"),
        ([{"image": torch.zeros(1, 16, 16)}], {"marks": []}, "`marks` must be 'real' or 'synthetic' for each of 1"),
        ([{"image": torch.zeros(1, 16, 16)}], {"marks": ["fake"]}, r"got \['fake'\]"),
        ([{"image": torch.zeros(1, 16, 16)}], {"columns": 0}, "`columns` must be at least 1, got 0"),
    ],
)
def test_bad_input(tmp_path, samples, options, message):
    with pytest.raises(ConfigurationError, match=message):
        contact_sheet(samples, {"image": IMAGE}, tmp_path / "a.png", **options)
    with pytest.raises(ConfigurationError, match=r"image fields \[\]"):
        contact_sheet([{"label": 1}], {"label": FieldSpec((), torch.int64, kind="scalar")}, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'torchgenaug\[demo\]'"):
        contact_sheet([{"image": torch.zeros(1, 16, 16)}], {"image": IMAGE}, tmp_path / "a.png")
