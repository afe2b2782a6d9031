"""Planted duplicates are found, and none where there are none."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trust.test_copy_detector import CHANGES, blobs
from torchgenaug.datasets import digits
from torchgenaug.errors import FieldMismatchError
from torchgenaug.trust import find_duplicates, find_overlap
from torchgenaug.trust.copies.describe import describe
from torchgenaug.trust.copies.duplicates import overlap_of


@pytest.mark.parametrize("change", ["exact", "gain", "flip", "noise"])
def test_planted_overlaps_are_found(change):
    train, test = blobs(80, 1), blobs(40, 2)
    test[[3, 30]] = CHANGES[change](train[[50, 7]])
    assert {(pair.first, pair.second) for pair in find_overlap(train, test)} == {(50, 3), (7, 30)}


def test_re_encoded_images_are_found():
    train, test = blobs(80, 1, (16, 16)), blobs(40, 2, (16, 16))
    test[5] = (train[8] * 15).round() / 15
    assert [(pair.first, pair.second) for pair in find_overlap(train, test)] == [(8, 5)]


@pytest.mark.parametrize("seed", range(5))
def test_clean_sets_raise_no_alarm(seed):
    assert find_overlap(blobs(80, 10 + seed), blobs(80, 20 + seed)) == []
    assert find_duplicates(blobs(80, 10 + seed)) == []


def test_all_images_repeated():
    """A test set that lies in the training set as a whole moves what is usual, and is found all the same."""
    train = blobs(80, 1)
    assert len(find_overlap(train, train[:60].flip(2))) == 60


def test_a_collapsed_set():
    images = blobs(40, 1)
    images[10:13] = images[2]
    pairs = find_duplicates(images)
    assert {index for pair in pairs for index in (pair.first, pair.second)} == {2, 10, 11, 12}
    assert all(pair.first < pair.second for pair in pairs)


def test_few_images():
    images = blobs(4, 1)
    assert find_duplicates(images) == []
    assert [pair[:2] for pair in find_duplicates(torch.cat([images, images[1:2]]))] == [(1, 4)]


def test_constant_images_are_no_duplicates_of_each_other():
    assert find_duplicates(torch.cat([blobs(20, 1), torch.zeros(3, 1, 32, 32)])) == []


def test_other_shapes():
    with pytest.raises(FieldMismatchError, match="`train` and `test` must have images of one shape"):
        find_overlap(blobs(10, 1), blobs(10, 1, (16, 16)), names=("train", "test"))


def test_images_saved_as_jpeg_are_found():
    draw = np.random.default_rng(3)
    images = torch.cat([digits.Digits(part).images for part in ("train", "held_out")])[:900]
    order = draw.permutation(900)
    train, test = images[order[:600]], images[order[600:]].clone()
    planted = dict(zip(draw.permutation(300)[:20].tolist(), draw.permutation(600)[:20].tolist(), strict=True))
    for row, seen in planted.items():
        encoded = io.BytesIO()
        pixels = (train[seen, 0].numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(encoded, "JPEG", quality=75)
        test[row] = torch.from_numpy(np.array(Image.open(encoded))) / 255
    assert {pair.second: pair.first for pair in find_overlap(train, test)} == planted


@pytest.mark.parametrize(("count", "others"), [(8, 8), (12, 12), (30, 360), (60, 200)])
def test_few_images_raise_no_alarm(count, others):
    """Few images do not tell what is usual: of thirty digits, three are of a class, and others of it lie far nearer."""
    images = torch.cat([digits.Digits(part).images for part in ("train", "held_out", "test")])
    for seed in range(3):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        train, test = images[order[:count]], images[order[count : count + others]].clone()
        assert find_overlap(train, test) == []
        test[5] = (train[3] * 63).round() / 63
        assert [pair[:2] for pair in find_overlap(train, test)] == [(3, 5)]


@pytest.mark.parametrize(("count", "others"), [(12, 12), (12, 100), (30, 100), (100, 12)])
def test_the_set_that_tells_more_decides(count, others):
    """By one of the sets alone, or if few images counted as much as many, three or more of the splits raise one."""
    images = torch.cat([digits.Digits(part).images for part in ("train", "held_out", "test")])[::4]
    described = describe(images)
    alarms = 0
    for seed in range(60):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        train, test = described.rows(order[:count]), described.rows(order[count : count + others])
        alarms += bool(overlap_of(train, test, ("train", "test")))
    assert alarms <= 1


@pytest.mark.parametrize("times", [2, 3])
def test_a_leak_among_images_that_are_repeated(times):
    """Copies within the searched set do not count as the usual distance, below which nothing would be found."""
    draw = torch.Generator().manual_seed(0)
    train, test = torch.randn(60, 1, 8, 8, generator=draw), torch.randn(30, 1, 8, 8, generator=draw)
    leaked = test[:5] + 0.01 * torch.randn(5, 1, 8, 8, generator=draw)
    found = find_overlap(torch.cat([*[train] * times, leaked]), test)
    assert sorted(pair.second for pair in found) == [0, 1, 2, 3, 4]
    assert find_overlap(torch.cat([train] * times), test) == []
