"""Which classes the values of masks are."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.mask_column import COLOUR, MaskColumn

SIZE = (48, 48)
Y, X = np.mgrid[:48, :48]


def column(*masks):
    found = MaskColumn("mask", lambda index: f"mask {index}", len(masks))
    for index, mask in enumerate(masks):
        tensor = torch.as_tensor(np.asarray(mask))[None]
        found.see(index, tensor, torch.zeros(1, *tensor.shape[1:]))
    return found


def classes(*masks):
    found = column(*masks)
    spec = found.spec(SIZE)
    return int(spec.value_range[1]) + 1, [found.classes()(torch.as_tensor(np.asarray(mask))[None])[0] for mask in masks]


def disc(radius=14, centre=(20, 24)):
    return np.hypot(Y - centre[0], X - centre[1]) < radius


def soft(radius=14, centre=(20, 24), width=1.0):
    return np.clip((radius - np.hypot(Y - centre[0], X - centre[1])) / width + 0.5, 0, 1)


@pytest.mark.parametrize("value", [1, 2, 255, 128, 65535])
def test_two_values(value):
    count, (mask,) = classes(disc().astype(np.int32) * value)
    assert count == (3 if value == 2 else 2)
    assert torch.equal(mask > 0, torch.from_numpy(disc()))


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 100])
@pytest.mark.parametrize("subsampled", [False, True])
def test_jpeg(quality, subsampled):
    image = pytest.importorskip("PIL.Image")
    masks = []
    for k in range(4):
        array = disc(centre=(18 + k, 25)).astype(np.uint8) * 255
        file = io.BytesIO()
        picture = image.fromarray(np.stack([array] * 3, -1) if subsampled else array)
        picture.save(file, "JPEG", quality=quality)
        masks.append(np.array(image.open(file).convert("L")))
    count, found = classes(*masks)
    assert count == 2
    for k, mask in enumerate(found):
        assert (mask.numpy() != disc(centre=(18 + k, 25))).mean() < 0.01


@pytest.mark.parametrize("quality", [5, 20, 50, 80])
@pytest.mark.parametrize("kind", ["WEBP", "JPEG"])
def test_strong_compression(quality, kind):
    """WebP moves whole blocks by a level or more: areas near the ends are no classes."""
    image = pytest.importorskip("PIL.Image")
    shapes, masks = [], []
    for k in range(4):
        shapes.append(disc(9, (14 + k, 18)) | disc(6, (36, 38)))
        file = io.BytesIO()
        image.fromarray(shapes[-1].astype(np.uint8) * 255).save(file, kind, quality=quality)
        masks.append(np.array(image.open(file).convert("RGB"))[..., 1])
    count, found = classes(*masks)
    assert count == 2
    assert max((mask.numpy() != shape).mean() for mask, shape in zip(found, shapes, strict=True)) < 0.02


def test_classes_next_to_0_are_not_taken_for_compression():
    """0, 1, 2 and a 255 with interpolated edges are never read as binary."""
    mask = np.zeros(SIZE, np.uint8)
    mask[2:12, 2:40], mask[14:24, 2:40], mask[29:39, 4:40] = 1, 2, 255
    assert classes(mask)[0] == 4
    for row, value in ((26, 20), (27, 110), (28, 200), (39, 230), (40, 128), (41, 40), (42, 12)):
        mask[row, 4:40] = value
    assert classes(mask)[0] > 4


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1.0, 255.0, 65535.0]),
    st.sampled_from([1, 2, 4]),
    st.integers(5, 18),
    st.integers(3, 200),
)
def test_soft_edges(full, width, radius, levels):
    """Of floats, 8 or 16 bits, however fine their steps."""
    steps = np.round(soft(radius, width=width) * levels) / levels * full
    mask = steps.astype(np.float32) if full == 1 else np.round(steps).astype(np.int32)
    if len(np.unique(mask)) < 3:
        return
    count, (found,) = classes(mask)
    assert count == 2
    assert (found.numpy() != (soft(radius, width=width) >= 0.5)).mean() < 0.05


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 255), min_size=2, max_size=6, unique=True), st.integers(0, 99))
def test_areas_are_classes(values, seed):
    """However their values lie: no class is taken for an edge."""
    mask = np.zeros(SIZE, np.uint8)
    for k, value in enumerate(sorted(values)):
        mask[8 * k : 8 * k + 6, 4:40] = value
    draw = np.random.default_rng(seed)
    mask = np.roll(mask, tuple(draw.integers(0, 9, 2)), (0, 1))
    count, (found,) = classes(mask)
    expected = max(values) + 1 if max(values) < 32 else len(values) + 1
    assert count == expected
    for value in values:
        assert len(found[torch.from_numpy(mask == value)].unique()) == 1
    assert len(found.unique()) == len(values) + 1


def test_an_ignored_border_is_a_class_that_is_stated():
    """255 for void, beside 0, 1 and 2."""
    mask = disc().astype(np.uint8) + disc(8)
    mask[disc(15) & ~disc(14)] = 255
    found = column(mask)
    assert found.spec(SIZE).value_range == (0, 3)
    assert "0, 1, 2, 255 became classes 0 to 3" in found.remarks[0]


def test_two_ways_of_writing_one_class_are_refused():
    with pytest.raises(ConfigurationError, match="0 and 1 and others with 0 and 255"):
        classes(disc().astype(np.uint8), disc().astype(np.uint8) * 255)


def test_colours():
    mask = np.zeros(SIZE, np.int32) + COLOUR
    mask[disc()] = COLOUR | 0xFF0000
    mask[disc(5)] = COLOUR | 0x0000FF
    white = disc().astype(np.int32) * 255  # a file that happens to be grey
    found = column(mask, white)
    assert found.spec(SIZE).value_range == (0, 3)
    assert "#000000, #0000ff, #ff0000, #ffffff became classes 0 to 3" in found.remarks[0]
    assert found.classes()(torch.from_numpy(mask)[None]).unique().tolist() == [0, 1, 2]
    assert found.classes()(torch.from_numpy(white)[None]).unique().tolist() == [0, 3]


@pytest.mark.parametrize(
    ("colours", "numbers"),
    [
        ((0x00FF00, 0xFF0000, 0x0000FF), (1, 2, 0)),  # ascending
        ((0xFFFFFF, 0xFF0000, 0x0000FF), (0, 2, 1)),  # white is the background
        ((0xFFFFFF, 0xFF0000), (0, 1)),
        ((0x000000, 0xFFFFFF, 0xFF0000), (0, 2, 1)),
    ],
)
def test_colours_without_black_leave_no_class_empty(colours, numbers):
    mask = np.full(SIZE, COLOUR | colours[0], np.int32)
    for k, colour in enumerate(colours[1:], 1):
        mask[9 * k : 9 * k + 7] = COLOUR | colour
    found = column(mask)
    assert found.spec(SIZE).value_range == (0, len(colours) - 1)
    result = found.classes()(torch.from_numpy(mask)[None])[0].numpy()
    for colour, number in zip(colours, numbers, strict=True):
        assert np.array_equal(result == number, mask == (COLOUR | colour))
    assert found.classes()(torch.zeros(1, 2, 2, dtype=torch.int32)).max() == 0  # with which masks are padded
    assert ("none is black" in found.remarks[0]) == (0 not in colours)


def test_greys_without_0_leave_no_class_empty():
    found = column(np.where(disc(), 200, 100).astype(np.uint8))
    assert found.spec(SIZE).value_range == (0, 1)
    assert "100, 200 became classes 0 to 1: none is 0" in found.remarks[0]
    assert column(np.full(SIZE, 255, np.uint8)).spec(SIZE).value_range == (0, 1)  # everything is covered


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.arange(48 * 48).reshape(SIZE) // 4, r"at most 64 different values, got more by mask 0: 0, 1, 2"),
        (np.random.default_rng(0).integers(0, 256, SIZE), r"at most 64 different values.*… 255"),
        (np.random.default_rng(0).random(SIZE).astype(np.float32), "whole numbers"),
        (np.full(SIZE, 0.5, np.float32), "whole numbers"),
        (-disc().astype(np.int16), "negative"),
        (np.where(disc(), np.nan, 0).astype(np.float32), "finite"),
        (np.zeros(SIZE), "another value than 0"),
    ],
)
def test_refused(mask, message):
    with pytest.raises(ConfigurationError, match=message):
        classes(mask)


@pytest.mark.parametrize("quality", [30, 75, 90, 100])
def test_compressed_classes_are_refused_with_their_values(quality):
    """A disc in a disc, as JPEG: neither binary nor classes."""
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.fromarray((disc() * 127 + disc(8) * 128).astype(np.uint8)).save(file, "JPEG", quality=quality)
    with pytest.raises(ConfigurationError, match=r"Masks must hold (one value per class|at most 64).*0, 1"):
        classes(np.array(image.open(file)))
