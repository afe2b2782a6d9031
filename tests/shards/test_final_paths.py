"""A shard that is there is never opened for writing: neither by a resume, nor by a repair, nor by a reader."""

from __future__ import annotations

import functools
import os
import sys

import h5py
import numpy as np
import pytest
from shards_helpers import contents, render, shard

from torchgenaug import ShardSource, verify_shards
from torchgenaug.shards.format import parse_shard_name

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_opened: list[tuple[str, str, int]] | None = None


def _listen(event, arguments):
    if _opened is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.append((os.path.basename(os.fsdecode(arguments[0])), str(arguments[1]), arguments[2]))


@functools.cache  # it stays for the life of the process, and slows it
def _begin_to_listen():
    sys.addaudithook(_listen)  # sees every open of Python's; HDF5's own are seen by their mode, below


@pytest.fixture
def opened(monkeypatch):
    """(name, mode, flags) of every file that is opened during the test."""
    global _opened
    _begin_to_listen()
    _opened = []
    make = h5py.File.__init__

    def note(self, name, mode="r", **options):
        if isinstance(name, str | os.PathLike):
            _opened.append((os.path.basename(name), mode, 0 if mode == "r" else os.O_RDWR))
        make(self, name, mode, **options)

    monkeypatch.setattr(h5py.File, "__init__", note)
    yield _opened
    _opened = None


def final(opened):
    return [entry for entry in opened if parse_shard_name(entry[0]) or entry[0] == "manifest.json"]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_no_final_path_is_opened_for_writing(tmp_path, opened, compression):
    path = tmp_path / "shards"
    render(path, compression=compression)
    before = contents(path)
    shard(path, 3).unlink()
    content = bytearray(shard(path, 1).read_bytes())
    content[-1] ^= 1
    shard(path, 1).write_bytes(content)
    opened.clear()
    render(path, compression=compression, resume="verify")
    assert not verify_shards(path).damaged
    for verify in ("sample", "hash", "off"):
        ShardSource(path, verify=verify).read(np.arange(22))
    assert len(final(opened)) > 10
    assert [entry for entry in final(opened) if entry[2] & WRITING or entry[1] not in ("r", "rb", "None")] == []
    assert any(entry[2] & os.O_CREAT and entry[0].endswith(".tmp") for entry in opened), "the ear hears"
    assert contents(path) == before


def test_a_shard_that_another_process_has_locked(tmp_path):
    """HDF5 truncates a locked file that it is asked to write, and then complains about the lock."""
    path = tmp_path / "shards"
    render(path)
    before = contents(path)
    with h5py.File(shard(path, 2), "r", locking=True), h5py.File(shard(path, 4), "r", locking=True):
        shard(path, 3).unlink()
        render(path, resume="verify")
    assert contents(path) == before
