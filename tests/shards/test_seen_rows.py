"""Which samples are compared with their checksums again. Files are aged by hand: a test does not wait."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from shards_helpers import render, shard
from torch.utils.data import DataLoader

from torchgenaug import ShardSource
from torchgenaug.errors import ShardCorruptError, ShardIncompleteError
from torchgenaug.shards.read import copying, hashed_file, reader, seen_rows

ALL = np.arange(22)


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Files of a moment ago count as settled, and few bytes are worth a look."""
    monkeypatch.setattr(seen_rows, "SETTLED_NS", 0)
    monkeypatch.setattr(reader, "_WORTH_A_LOOK", 0)


@pytest.fixture
def hashed(monkeypatch):
    """How many checksums were computed."""
    calls = []

    def digest(data, seed=0):
        calls.append(seed)
        return real(data, seed)

    real = copying.xxhash.xxh3_64_intdigest
    monkeypatch.setattr(copying.xxhash, "xxh3_64_intdigest", digest)
    return calls


def flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def image_offset(source, index):
    return source._shards().get([index])[index].offsets["image"]


def count(hashed):
    found = len(hashed)
    hashed.clear()
    return found


@pytest.mark.parametrize("compression", [None, "lz4", "gzip"])
def test_each_sample_is_compared_once(tmp_path, hashed, compression):
    source = ShardSource(render(tmp_path / "shards", compression=compression).path)
    fields = len(source.fields)
    count(hashed)
    expected = source.read(ALL)
    assert count(hashed) == fields * 22
    again = source.read(ALL[::-1].copy())
    assert count(hashed) == 0
    assert all(torch.equal(again[name].flip(0), value) for name, value in expected.items())
    every = ShardSource(source.path, verify="read")
    every.read(ALL)
    every.read(ALL)
    assert count(hashed) == 2 * fields * 22


def test_a_sample_read_twice_in_one_batch_is_compared_once(folder, hashed):
    source = ShardSource(folder)
    source.read(np.array([3, 3, 3]))
    assert count(hashed) == len(source.fields)


def test_fields_are_compared_one_by_one(folder, hashed):
    source = ShardSource(folder)
    source.column("label")
    assert count(hashed) == 22
    source.read(ALL)
    assert count(hashed) == (len(source.fields) - 1) * 22


@pytest.mark.parametrize("verify", ["sample", "read"])
def test_a_file_written_to_after_it_was_read_is_found(folder, verify):
    source = ShardSource(folder, verify=verify)
    source.read(ALL)
    flip(shard(folder, 1), image_offset(source, 1))
    with pytest.raises(ShardCorruptError, match=r"'image' is wrong for ids 4\."):
        source.read(ALL)
    source.read(np.array([0, 9]))


def test_times_that_were_set_back_hide_nothing(folder):
    path, source = shard(folder, 1), ShardSource(folder)
    source.read(ALL)
    before = path.stat()
    flip(path, image_offset(source, 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ShardCorruptError, match="'image' is wrong"):
        source.read(ALL)


def test_a_file_of_a_moment_ago_is_compared_in_each_read(folder, hashed, monkeypatch):
    """Two writes within one step of the file system's clock would look like one."""
    monkeypatch.setattr(seen_rows, "SETTLED_NS", 10**18)
    source = ShardSource(folder)
    for _ in range(2):
        source.read(ALL)
        assert count(hashed) == len(source.fields) * 22


def test_a_time_in_the_future_is_a_moment_ago(folder, hashed):
    for path in folder.glob("shard-*"):
        os.utime(path, ns=(0, time.time_ns() + 10**15))
    source = ShardSource(folder)
    for _ in range(2):
        source.read(ALL)
        assert count(hashed) == len(source.fields) * 22


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_no_longer_there_is_compared_in_each_read(folder, hashed, how):
    """What is mapped is the old file, and nothing says any more whether it is written to."""
    source = ShardSource(folder)
    expected = source.read(ALL)
    count(hashed)
    path = shard(folder, 1)
    copy = path.read_bytes()
    path.unlink()
    if how == "replaced":
        path.write_bytes(copy)
    for _ in range(2):
        again = source.read(ALL)
        assert count(hashed) == len(source.fields) * 4
    assert torch.equal(again["image"], expected["image"])


def test_without_a_map_each_read_compares(folder, hashed):
    source = ShardSource(folder, mmap=False)
    for _ in range(2):
        source.read(ALL)
        assert count(hashed) == len(source.fields) * 22


def test_a_flip_before_the_first_read_is_found_in_every_worker(folder):
    source = ShardSource(folder)
    source.read(ALL[:4])
    flip(shard(folder, 5), image_offset(source, 5))
    with pytest.raises(ShardCorruptError, match="shard-00005"):
        list(DataLoader(source, 4, num_workers=1))


class TestTwoThreads:
    @pytest.fixture(autouse=True)
    def split(self, monkeypatch):
        monkeypatch.setattr(copying, "_SHARED_BYTES", 1)
        monkeypatch.setattr(copying, "_cores", lambda: 2)

    @pytest.mark.parametrize("compression", ["lz4", "gzip"])
    def test_decode_what_one_does(self, tmp_path, compression):
        source = render(tmp_path / "shards", compression=compression)
        positions = np.random.default_rng(0).integers(0, 22, 7)
        single = torch.cat([source.read(positions[k : k + 1])["image"] for k in range(7)])
        assert torch.equal(source.read(positions)["image"], single)

    @pytest.mark.parametrize("wrong", [0, 5])
    def test_a_flip_in_either_half_is_found(self, tmp_path, wrong):
        source = render(tmp_path / "shards", compression="gzip")
        path = shard(source.path, wrong)
        chunks = source._shards().get([wrong])[wrong].compressed[list(source.fields).index("image")]
        flip(path, int(chunks._extents[0][0]) + int(chunks._extents[0][1]) // 2)
        with pytest.raises(ShardCorruptError, match=f"shard-0000{wrong}"):
            ShardSource(source.path).read(ALL)

    def test_where_no_thread_is_to_be_had_one_decodes(self, tmp_path, monkeypatch):
        source = render(tmp_path / "shards", compression="lz4")
        expected = source.read(ALL)["image"]

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(copying.threading.Thread, "start", refuse)
        assert torch.equal(source.read(ALL)["image"], expected)


class TestHashedFiles:
    """``verify="hash"`` compares no sample: what is written to a file after it was hashed is seen by its times."""

    @pytest.fixture
    def compared(self, monkeypatch):
        """How often the content of an open file was hashed again."""
        calls, real = [], hashed_file._sha256
        monkeypatch.setattr(hashed_file, "_sha256", lambda content: calls.append(len(content)) or real(content))
        return calls

    @pytest.mark.parametrize("mmap", [True, False])
    @pytest.mark.parametrize("storage", [{}, {"compression": "lz4"}])
    def test_a_file_written_to_in_place_is_refused(self, tmp_path, compared, mmap, storage):
        folder = render(tmp_path / "shards", **storage).path
        source = ShardSource(folder, verify="hash", mmap=mmap)
        source.read(ALL)
        source.read(ALL)
        assert not compared, "a file that nobody wrote to is hashed once"
        path = shard(folder, 1)
        before = path.stat()
        flip(path, before.st_size // 2)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ShardCorruptError, match=r"(?s)shard-00001.*written to after it had been hashed"):
            source.read(ALL)
        with pytest.raises(ShardCorruptError, match="shard-00001"):
            source.column("label")
        source.read(np.array([0, 9]))

    @pytest.mark.parametrize("size", [-1, 1])
    def test_a_file_of_another_length_is_refused_unread(self, folder, compared, size):
        source = ShardSource(folder, verify="hash")
        source.read(ALL)
        path = shard(folder, 1)
        os.truncate(path, path.stat().st_size + size)
        with pytest.raises(ShardCorruptError, match="cut or lengthened"):
            source.read(ALL)
        assert not compared

    def test_a_touched_file_is_hashed_once_more(self, folder, compared):
        source = ShardSource(folder, verify="hash")
        expected = source.read(ALL)
        os.utime(shard(folder, 1))
        for _ in range(2):
            assert torch.equal(source.read(ALL)["image"], expected["image"])
        assert len(compared) == 1

    def test_within_one_step_of_the_clock_each_read_compares(self, folder, compared, monkeypatch):
        monkeypatch.setattr(seen_rows, "SETTLED_NS", 10**18)
        source = ShardSource(folder, verify="hash")
        for number in range(2):
            source.read(ALL)
            assert len(compared) == 6 * (number + 1)

    def test_a_clock_that_is_ahead_does_not_hash_for_ever(self, folder, compared):
        for path in folder.glob("shard-*"):
            os.utime(path, ns=(0, time.time_ns() + 10**15))
        source = ShardSource(folder, verify="hash")
        for _ in range(3):
            source.read(ALL)
        assert len(compared) == 6

    @pytest.mark.parametrize("how", ["removed", "replaced", "by another"])
    def test_what_takes_the_place_of_a_file_is_opened_and_hashed(self, folder, how):
        source = ShardSource(folder, verify="hash")
        expected = source.read(ALL)["image"]
        path = shard(folder, 1)
        copy = path.read_bytes()
        path.unlink()
        if how != "removed":
            path.write_bytes(copy if how == "replaced" else copy[:-1] + b"\1")
        assert torch.equal(source.read(ALL)["image"], expected), "what is open is what was hashed"
        errors = {"removed": pytest.raises(ShardIncompleteError), "by another": pytest.raises(ShardCorruptError)}
        with errors.get(how, nullcontext()):
            assert torch.equal(source.read(ALL)["image"], expected)
