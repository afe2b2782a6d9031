"""What looks like a mask, and the globs that part files."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.selection import Glob
from torchgenaug.recipes.data.suspicion import MaskWatch, are_masks_of, common_glob, looks_like_mask, num_levels

DRAW = np.random.default_rng(0)
DISC = np.hypot(*(np.mgrid[:64, :64] - 30)) < 20


def tensor(array):
    return torch.from_numpy(np.array(array))[None]


def jpeg(array):
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.fromarray(array).save(file, "JPEG", quality=75)
    return np.asarray(image.open(file))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (DISC.astype(np.uint8), True),
        (DISC.astype(np.float32) * 3, True),
        (DISC.astype(np.int32) * 5 + DISC[::-1], True),
        (jpeg(DISC.astype(np.uint8) * 255), True),
        (np.zeros((64, 64), np.uint8), False),  # an empty slice
        (DRAW.integers(0, 255, (64, 64), dtype=np.uint8), False),
        (DRAW.normal(size=(64, 64)).astype(np.float32), False),
        (np.where(DISC, DRAW.integers(90, 200, (64, 64)), 0).astype(np.uint8), False),  # a head before black
        (np.where(DISC, 1000.0, 0) + DRAW.normal(size=(64, 64)), False),  # a phantom
    ],
)
def test_masks_and_pictures(values, expected):
    assert looks_like_mask(tensor(values)) == expected


def test_colours():
    label_map = np.zeros((3, 64, 64), np.uint8)
    label_map[0, DISC] = 255
    assert looks_like_mask(torch.from_numpy(label_map))
    assert not looks_like_mask(torch.from_numpy(DRAW.integers(0, 255, (3, 64, 64), dtype=np.uint8)))


PATHS = st.lists(
    st.from_regex(r"([ab]{1,2}/){0,2}[a-c0-9_]{1,4}\.(png|nii\.gz)", fullmatch=True),
    min_size=1,
    max_size=5,
    unique=True,
)


@settings(max_examples=50, deadline=None)
@given(PATHS)
def test_a_common_glob_matches_its_files(keys):
    assert Glob(common_glob(keys)).keep(keys) == set(keys)


@pytest.mark.parametrize(
    ("pattern", "key", "captures"),
    [
        ("*.png", "a/b/x.png", ("x",)),
        ("a/*.png", "a/x.png", ("x",)),
        ("a/*.png", "a/b/x.png", None),
        ("a/**", "a/b/x.png", ("b/x.png",)),
        ("**/x?.png", "a/b/x1.png", ("a/b/", "1")),
        ("**/*.png", "x.png", ("", "x")),
        ("./A/*.PNG", "a/x.png", ("x",)),
        ("[ab]/*.png", "b/x.png", ("x",)),
        ("[!a]/*.png", "a/x.png", None),
        ("case (1)+.png", "case (1)+.png", ()),
        ("*_mask.png", "x_mask_1.png", None),
    ],
)
def test_globs(pattern, key, captures):
    assert Glob(pattern).captures(key) == captures


def watched(images):
    watch = MaskWatch([f"{k}.png" for k in range(len(images))], str)
    for index, image in enumerate(images):
        watch.see(index, {"image": image})
    return watch.remarks()


def test_digits_of_17_greys_are_images():
    """Some of 8 x 8 pixels hold 16 values or fewer by chance; those of full range change nothing about it."""
    draw = np.random.default_rng(0)
    digits = [tensor((draw.integers(0, 17, (8, 8)) * 15).astype(np.uint8)) for _ in range(40)]
    assert min(len(each.unique()) for each in digits) < 17
    full = [tensor(draw.integers(0, 256, (8, 8)).astype(np.uint8)) for _ in range(40)]
    assert watched([*digits, *full]) == ()


def test_few_values_in_areas_are_a_mask():
    """Of eight cells, each a number, or of 16 classes in stripes."""
    cells = np.zeros((64, 64), np.uint8)
    for k in range(8):
        cells[8 * k + 1 : 8 * k + 6, 5 * k : 5 * k + 20] = k + 1
    assert looks_like_mask(tensor(cells))
    assert looks_like_mask(tensor(np.repeat(np.arange(16, dtype=np.uint8), 4)[:, None].repeat(64, 1)))


@pytest.mark.parametrize("soft", [False, True])
def test_masks_among_images_are_in_doubt(soft):
    mask = tensor(jpeg(DISC.astype(np.uint8) * 255) if soft else DISC.astype(np.uint8))
    assert num_levels(mask) == 2
    pictures = [tensor(DRAW.integers(60, 190, (64, 64), dtype=np.uint8)) for _ in range(3)]
    with pytest.raises(ConfigurationError, match="3 of 6 that hold few values"):
        watched([*pictures, mask, mask, mask])
    assert are_masks_of([2, 16], [40, 33, 200])
    assert not are_masks_of([2, 16], [17, 18, 200])
