"""Full disks at sizes where HDF5 writes when it likes; and what is read back before a shard gets its name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from shards_helpers import contents, render

from tests import clean_interpreter, interpreter
from torchgenaug import verify_shards
from torchgenaug.errors import ShardCorruptError, ShardError
from torchgenaug.shards import temporary

SCRIPT = Path(__file__).parent / "full_disk.py"


def campaign(kind, renders):
    child = clean_interpreter.run([SCRIPT, kind, renders], timeout=3600)
    if "no such disk here" in child.stderr:
        pytest.skip("needs the right to mount a file system")
    assert child.returncode == 0, child.stdout + child.stderr
    return child.stdout


@pytest.mark.parametrize("kind", [pytest.param("limit", marks=pytest.mark.slow), "tmpfs"])
def test_full_disks_damage_nothing(kind):
    """One render of each compression; where HDF5 itself wrote to the disk, those with one ended by SIGSEGV."""
    assert "{'renders': 4, 'failed, and said so': " in campaign(kind, 4)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "renders"), [("tmpfs", 96), ("ext4", 64), ("limit", 48), ("quota", 64)])
def test_full_disks_damage_nothing_200_times(kind, renders):
    """``pytest -m slow tests/shards/test_full_disk.py``: for good and for moments."""
    campaign(kind, renders)


class UnreliableDisk:
    """`os` whose write number `number` does something else."""

    def __init__(self, number, instead):
        self.left, self._instead = number, instead

    def pwrite(self, descriptor, content, position):
        self.left -= 1
        if self.left == 0:
            return self._instead(descriptor, content, position)
        return os.pwrite(descriptor, content, position)

    def __getattr__(self, name):
        return getattr(os, name)


def lost(descriptor, content, position):
    return len(content)


def zeroed(descriptor, content, position):
    return os.pwrite(descriptor, bytes(len(content)), position)


def elsewhere(descriptor, content, position):
    return os.pwrite(descriptor, content, position + 64)


def flipped(descriptor, content, position):
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 4
    return os.pwrite(descriptor, changed, position)


@pytest.mark.parametrize("compression", [None, "gzip", "lz4"])
@pytest.mark.parametrize("instead", [lost, zeroed, elsewhere, flipped])
def test_a_disk_that_loses_or_changes_a_write_is_found_before_the_commit(tmp_path, monkeypatch, compression, instead):
    """Whichever write it is: either nothing of the shard has changed, or it is not committed."""
    found = 0
    for number in range(2, 30, 2 if compression is None else 4):
        path, message = tmp_path / f"{number}", ""
        disk = UnreliableDisk(number, instead)
        with monkeypatch.context() as patch:
            patch.setattr(temporary, "os", disk)
            try:
                render(path, 8, compression=compression)
            except ShardCorruptError as error:
                message = str(error)
        if message:
            found += 1
            assert "must be read back as it was written" in message
            assert "It was not committed" in message
        assert not verify_shards(path).damaged, number  # a byte between the data may be another one
        render(path, 8, compression=compression)
        assert verify_shards(path).ok
        if disk.left > 0:
            break
    assert found > 1


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_an_error_of_a_single_write_is_not_lost(tmp_path, monkeypatch, compression, number):
    """As where a disk is full for a moment only."""

    def fail(descriptor, content, position):
        raise OSError(number, os.strerror(number))

    for turn in (2, 5, 9):
        with monkeypatch.context() as patch:
            patch.setattr(temporary, "os", UnreliableDisk(turn, fail))
            with pytest.raises(OSError if number == errno.EIO else ShardError):
                render(tmp_path / f"{turn}", 8, compression=compression)
        render(tmp_path / f"{turn}", 8, compression=compression)
    render(tmp_path / "whole", 8, compression=compression)
    assert contents(tmp_path / "2") == contents(tmp_path / "5") == contents(tmp_path / "whole")


def test_a_limit_on_the_size_of_files_is_named(tmp_path):
    code = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from shards_helpers import render
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
render(sys.argv[2])
"""
    child = interpreter.run(["-c", code, SCRIPT.parent, tmp_path / "shards"])
    assert child.returncode == 1
    assert (
        "takes no file as large as a shard. Raise the limit (ulimit -f), or use a smaller `shard_size`" in child.stderr
    )
