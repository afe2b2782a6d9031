"""Bit flips anywhere in a shard: the samples that were rendered, or an error. Never anything else.

The long campaign, 10,000 flips: ``python -m pytest tests/shards/test_bit_flips.py -m slow``.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
import torch
from shards_helpers import render, shard

from torchgenaug import ShardSource, verify_shards
from torchgenaug.errors import ShardCorruptError

STORAGES = {
    "plain": {},
    "quantised": {"dtype": "uint8"},
    "gzip": {"compression": "gzip"},
    "lz4": {"compression": "lz4"},
    "zstd": {"compression": "zstd"},
}


@pytest.fixture(scope="module", params=STORAGES)
def rendered(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("flips") / "shards"
    render(path, 8, **STORAGES[request.param])
    return path


def flip(path, expected, count, seed):
    """How many of `count` single flips were refused; fails if one gave other samples."""
    file = shard(path, 1)
    intact, random = file.read_bytes(), np.random.default_rng(seed)
    refused = 0
    try:
        for place, bit in zip(random.integers(0, len(intact), count), random.integers(0, 8, count), strict=True):
            content = bytearray(intact)
            content[place] ^= 1 << bit
            # Another file under the old name: the map that an earlier reading holds must not change under it.
            (path / "new").write_bytes(content)
            os.replace(path / "new", file)
            try:
                batch = ShardSource(path).read(np.arange(4, 8))
            except ShardCorruptError:
                refused += 1
            else:
                assert all(torch.equal(batch[name], value) for name, value in expected.items()), (place, bit)
    finally:
        (path / "new").write_bytes(intact)
        os.replace(path / "new", file)
    return refused


def test_no_flip_gives_another_sample(rendered):
    expected = ShardSource(rendered).read(np.arange(4, 8))
    assert flip(rendered, expected, 40, seed=0) > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_flips_of_each_storage(rendered):
    expected = ShardSource(rendered).read(np.arange(4, 8))
    assert flip(rendered, expected, 2000, seed=1) > 500


def test_every_flip_changes_the_hash(rendered):
    """In unused bytes, too: what a reader with verify="hash" and `verify_shards` go by."""
    file = shard(rendered, 1)
    intact, random = file.read_bytes(), np.random.default_rng(2)
    for place in random.integers(0, len(intact), 10):
        content = bytearray(intact)
        content[place] ^= 4
        file.write_bytes(content)
        with pytest.raises(ShardCorruptError, match="sha256 of its content"):
            ShardSource(rendered, verify="hash").read(np.array([4]))
        report = verify_shards(rendered)
        assert (list(report.damaged), report.bad_ids) == ([file.name], [range(4, 8)])
    file.write_bytes(intact)
    assert verify_shards(rendered).ok


def test_exchanged_chunks_are_refused(tmp_path):
    """Each chunk is as it was written, and HDF5's structure is sound: only the salt of the checksums tells."""
    import h5py

    render(tmp_path / "shards", 8, compression="gzip")
    path = shard(tmp_path / "shards", 1)
    with h5py.File(path, "r+") as file:
        image = file["image"].id
        (mask, first), (_, second) = (image.read_direct_chunk((row, 0, 0, 0)) for row in (0, 1))
        image.write_direct_chunk((0, 0, 0, 0), second, mask)
        image.write_direct_chunk((1, 0, 0, 0), first, mask)
    path.rename(path.with_name(f"shard-00001.{hashlib.sha256(path.read_bytes()).hexdigest()}.h5"))
    source = ShardSource(tmp_path / "shards", verify="sample")
    with pytest.raises(ShardCorruptError, match="'image' is wrong for ids 4-5"):
        source.read(np.arange(4, 8))
    source.read(np.array([6, 7]))
    assert verify_shards(tmp_path / "shards").bad_ids == [range(4, 8)]


def test_a_zeroed_chunk_is_refused(tmp_path):
    """As an unwritten one would read."""
    import h5py

    render(tmp_path / "shards", 8, compression="lz4")
    with h5py.File(shard(tmp_path / "shards", 1), "r+") as file:
        file["image"][2] = 0
    with pytest.raises(ShardCorruptError, match="'image' is wrong for ids 6"):
        ShardSource(tmp_path / "shards").read(np.arange(4, 8))
