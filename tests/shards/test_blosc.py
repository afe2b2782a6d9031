"""Samples compressed with Blosc: read by its own decoder, or through HDF5 where there is none, and the same."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from shards_helpers import render, shard

from torchgenaug import FieldSpec, FunctionSynthesizer, ShardSource, SyntheticSequence, render_shards, seeding
from torchgenaug.errors import ShardCorruptError
from torchgenaug.shards.read import blosc, opened

pytest.importorskip("hdf5plugin")
pytestmark = pytest.mark.skipif(blosc.find_decoder() is None, reason="this hdf5plugin exports no decoder")


@pytest.fixture(params=["lz4", "zstd"])
def folder(request, tmp_path):
    render(tmp_path / "shards", compression=request.param)
    return tmp_path / "shards"


def compressed_rows(source):
    """How the first compressed field of the first shard is read."""
    return next(rows for rows in source._shards().get([0])[0].compressed if rows is not None)


def test_both_ways_give_the_same_samples(folder, tmp_path, monkeypatch):
    plain = render(tmp_path / "plain").read(np.arange(22))
    own = ShardSource(folder)
    found = own.read(np.arange(22))
    assert isinstance(compressed_rows(own), blosc.PlainBloscRows)
    monkeypatch.setattr(opened, "find_decoder", lambda: None)
    through_hdf5 = ShardSource(folder).read(np.arange(22))
    for name, value in plain.items():
        assert torch.equal(found[name], value)
        assert torch.equal(through_hdf5[name], value)


def test_samples_that_would_not_become_smaller(tmp_path):
    """Blosc leaves them as they are; so does the reader."""

    def noise(seeds, conditions):
        bits = [seeding.derive(seed, range(1024)).astype(np.uint32).view(np.int32) for seed in seeds]
        return {"image": torch.from_numpy(np.stack(bits)).reshape(-1, 1, 32, 32)}

    fields = {"image": FieldSpec((1, 32, 32), torch.int32)}
    sequence = SyntheticSequence(FunctionSynthesizer(noise, fields, fingerprint="noise"))
    source = render_shards(sequence, tmp_path / "shards", 4, compression="lz4", progress=False)
    rows = compressed_rows(source)
    assert np.asarray(rows._extents)[:, 2].any()
    assert torch.equal(source.read(np.arange(4))["image"], sequence.batch(range(4))["image"])


def test_no_file_stays_open(folder):
    before = len(os.listdir("/proc/self/fd"))
    source = ShardSource(folder)
    source.read(np.arange(22))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_stream_that_is_damaged_is_named(folder):
    source = ShardSource(folder)
    source.read(np.array([0]))
    rows = compressed_rows(source)
    offset, length, _ = np.asarray(rows._extents)[1].tolist()
    content = bytearray(shard(folder, 0).read_bytes())
    content[offset + 16 : offset + length] = b"\xff" * (length - 16)
    shard(folder, 0).write_bytes(content)
    with pytest.raises(ShardCorruptError):
        ShardSource(folder).read(np.array([1]))


@pytest.mark.parametrize("files", [[], ["libh5blosc.so"]])
def test_a_plugin_without_the_decoder_is_no_error(tmp_path, monkeypatch, files):
    for name in files:
        (tmp_path / name).write_bytes(b"no library")
    import hdf5plugin

    monkeypatch.setattr(hdf5plugin, "PLUGIN_PATH", str(tmp_path))
    assert blosc.find_decoder.__wrapped__() is None
