"""Shards that equal a checked one around their data are not taken apart again; all others are."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from torchgenaug import ShardSource, SyntheticSequence, render_shards
from torchgenaug.errors import ShardCorruptError
from torchgenaug.shards.read import opened
from torchgenaug.shards.read.frame import Frame
from torchgenaug.testing import AnalyticSynthesizer


@pytest.fixture
def folder(tmp_path):
    render_shards(SyntheticSequence(AnalyticSynthesizer()), tmp_path / "shards", 20, batch_size=4, shard_size=4)
    return tmp_path / "shards"


@pytest.fixture
def taken_apart(monkeypatch):
    """The shards that were opened through HDF5."""
    seen = []
    original = opened.open_checked

    def noted(content, manifest, index, *check):
        seen.append(index)
        return original(content, manifest, index, *check)

    monkeypatch.setattr(opened, "open_checked", noted)
    return seen


def shard(folder, index):
    return next(folder.glob(f"shard-{index:05d}.*"))


def test_only_the_first_shard_of_a_length_goes_through_hdf5(folder, taken_apart):
    source = ShardSource(folder)
    found = source.read(np.arange(20))["image"]
    assert taken_apart == [0]
    expected = torch.cat(
        [SyntheticSequence(AnalyticSynthesizer()).batch(range(k, k + 4))["image"] for k in range(0, 20, 4)]
    )
    assert torch.equal(found, expected)


def test_the_hash_of_each_file_is_compared_all_the_same(folder, taken_apart):
    ShardSource(folder, verify="hash").read(np.arange(20))
    assert taken_apart == [0, 1, 2, 3, 4]


def test_a_shard_with_another_structure_goes_through_hdf5(folder, taken_apart):
    source = ShardSource(folder)
    source.read(np.array([0]))
    path = shard(folder, 2)
    content = bytearray(path.read_bytes())
    content[8] ^= 0xFF  # the version of the superblock
    path.write_bytes(content)
    with pytest.raises(ShardCorruptError):
        source.read(np.array([9]))
    assert taken_apart == [0, 2]


@pytest.mark.parametrize("make", [lambda path, target: path.symlink_to("/dev/zero"), lambda path, target: path.mkdir()])
def test_what_is_no_file_is_never_mapped(folder, make):
    source = ShardSource(folder)
    source.read(np.array([0]))
    path = shard(folder, 1)
    copy = folder / "copy"
    shutil.move(path, copy)
    make(path, copy)
    with pytest.raises((ShardCorruptError, OSError)):
        source.read(np.array([4]))


def test_a_shard_in_the_place_of_another_is_refused(folder):
    source = ShardSource(folder)
    source.read(np.array([0]))
    shutil.copy(shard(folder, 3), shard(folder, 1))
    with pytest.raises(ShardCorruptError, match="other ids"):
        source.read(np.array([4]))


def test_a_process_without_maps_left_gives_some_back(folder, monkeypatch):
    source = ShardSource(folder)
    expected = source.read(np.arange(20))["image"]
    source = ShardSource(folder)
    original = opened.map_file
    left = 3

    def scarce(descriptor):
        nonlocal left
        if left == 0:
            left = 3
            raise RuntimeError("unable to mmap 4096 bytes from file: Cannot allocate memory (12)")
        left -= 1
        return original(descriptor)

    monkeypatch.setattr(opened, "map_file", scarce)
    assert torch.equal(source.read(np.arange(20))["image"], expected)


def test_where_nothing_can_be_mapped_files_are_read(folder, monkeypatch):
    """Under ``ulimit -v``, and on file systems without maps."""
    expected = ShardSource(folder).read(np.arange(20))

    def refuse(descriptor):
        raise RuntimeError("unable to mmap 4096 bytes from file: No such device (19)")

    monkeypatch.setattr(opened, "map_file", refuse)
    for verify in ("sample", "hash", "off"):
        source = ShardSource(folder, verify=verify)
        for _ in range(2):
            assert all(torch.equal(value, expected[name]) for name, value in source.read(np.arange(20)).items())


def test_a_frame_is_all_but_the_data():
    mapped = np.arange(100, dtype=np.uint8)
    frame = Frame.of(mapped, {"b": 50, "a": 10}, {"a": 20, "b": 30})
    assert frame.gaps == ((0, 10), (30, 50), (80, 100))
    assert frame.content == bytes([*range(10), *range(30, 50), *range(80, 100)])
    other = mapped.copy()
    other[10:30] = 0
    assert frame.fits(other)
    other[9] ^= 1
    assert not frame.fits(other)
    assert not frame.fits(mapped[:-1])


def test_a_frame_that_is_too_large_is_not_kept():
    assert Frame.of(np.zeros(1 << 17, np.uint8), {"a": 0}, {"a": 8}) is None
