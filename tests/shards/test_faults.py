"""Every system call of a render fails once; full disks. The folder keeps an old state or a new one, never a third."""

from __future__ import annotations

import collections
import errno
import os
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import pytest
from shards_helpers import contents, render

from tests import interpreter
from torchgenaug.errors import ShardError
from torchgenaug.shards import folder, temporary
from torchgenaug.shards import inventory as damage
from torchgenaug.shards.render import plan
from torchgenaug.shards.render import render as render_module
from torchgenaug.shards.write import writer

SMALL = {"count": 6, "batch_size": 2, "shard_size": 4}  # two shards
CALLS = ("open", "close", "pwrite", "fsync", "replace", "link", "unlink", "posix_fallocate", "mkdir", "fstat")
CALLS += ("listdir", "scandir", "h5py_create", "h5py_close")
# These may have their effect and fail nevertheless, as on a network file system that lost the answer.
EFFECTS = ("pwrite", "fsync", "replace", "link", "unlink", "mkdir", "posix_fallocate")


class Faults:
    """Counts the system calls of the shards' modules, and lets one of them fail.

    Args:
        call: which one.
        turn: which time, from 0.
        after: it has its effect, and fails nevertheless.
    """

    def __init__(self, monkeypatch, call="", turn=0, *, after=False):
        self.call, self.turn, self.after = call, turn, after
        self.counts = collections.Counter()
        for module in (folder, temporary, plan, writer, damage, render_module):
            if hasattr(module, "os"):
                monkeypatch.setattr(module, "os", self)
        self._mkdir, self._file = os.mkdir, h5py.File
        monkeypatch.setattr(os, "mkdir", self._wrapped("mkdir", os.mkdir))  # what pathlib calls
        faults = self

        class File(h5py.File):
            def __init__(self, name, mode, **options):
                faults._wrapped("h5py_create" if mode == "w" else "h5py_read", super().__init__)(name, mode, **options)

            def close(self):
                faults._wrapped("h5py_close" if self and self.mode == "r+" else "h5py_done", super().close)()

        monkeypatch.setattr(h5py, "File", File)

    def _wrapped(self, name, function):
        def call(*arguments, **options):
            turn = self.counts[name]
            self.counts[name] += 1
            if name != self.call or turn != self.turn:
                return function(*arguments, **options)
            # A close that fails has closed.
            if self.after or name in ("close", "h5py_close"):
                function(*arguments, **options)
            raise OSError(errno.EIO, f"injected into {name}")

        return call

    def __getattr__(self, name):
        value = getattr(os, name)
        return self._wrapped(name, value) if name in CALLS else value


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_every_call_fails_once(tmp_path, compression):
    expected_path = tmp_path / "whole"
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch)
        render(expected_path, compression=compression, **SMALL)
    expected = contents(expected_path)
    assert faults.counts.keys() >= {"open", "close", "pwrite", "fsync", "replace", "link", "mkdir", "h5py_close"}
    # What a codec changes is how a shard is written, not what happens to its folder.
    calls = [call for call in CALLS if compression is None or call.startswith(("pwrite", "h5py", "posix"))]
    cases = [(call, turn, False) for call in calls for turn in range(faults.counts[call])]
    cases += [(call, turn, True) for call in EFFECTS if call in calls for turn in range(faults.counts[call])]
    assert len(cases) > (50 if compression is None else 8)
    raised = 0
    for number, (call, turn, after) in enumerate(cases):
        path, where = tmp_path / f"{number}", f"{call} number {turn}, {'after' if after else 'before'} its effect"
        open_before = descriptors()
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, call, turn, after=after)
            try:
                render(path, compression=compression, **SMALL)
            except (OSError, ShardError):
                raised += 1
            else:
                assert contents(path) == expected, where
        assert descriptors() == open_before, where
        left = contents(path) if path.exists() else {}
        visible = {name: digest for name, digest in left.items() if not name.startswith(".")}
        assert visible.items() <= expected.items(), where
        assert not visible or "manifest.json" in visible, where
        render(path, compression=compression, **SMALL)
        assert contents(path) == expected, where
        shutil.rmtree(path)
    assert raised > 0.9 * len(cases), "faults are reported, not swallowed"


class SmallDisk:
    """`os` on a disk with `free` bytes, which are used up in the middle of a write."""

    def __init__(self, free, *, reserves):
        self.free, self._reserves = free, reserves

    def pwrite(self, descriptor, content, position):
        if self.free <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = os.pwrite(descriptor, content[: self.free], position)
        if not self._reserves:
            self.free -= written
        return written

    def posix_fallocate(self, descriptor, start, size):
        if not self._reserves:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        if size > self.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.free -= size

    def __getattr__(self, name):
        return getattr(os, name)


@pytest.mark.parametrize("reserves", [True, False])
@pytest.mark.parametrize("offsets", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_disk_full_at_any_offset(tmp_path, offsets, reserves):
    whole = tmp_path / "whole"
    with pytest.MonkeyPatch.context() as patch:
        disk = SmallDisk(10**9, reserves=reserves)
        patch.setattr(temporary, "os", disk)
        patch.setattr(writer, "os", disk)
        render(whole, **SMALL)
    expected, total = contents(whole), 10**9 - disk.free
    for step in range(offsets):
        path, free = tmp_path / f"{step}", step * total // offsets
        with pytest.MonkeyPatch.context() as patch:
            disk = SmallDisk(free, reserves=reserves)
            patch.setattr(temporary, "os", disk)
            patch.setattr(writer, "os", disk)
            message = r"is full\. .*(of 2 shards are complete|Nothing was rendered).* again"
            with pytest.raises(ShardError, match=message):
                render(path, **SMALL)
        left = contents(path)
        assert left.items() <= expected.items(), f"{free} of {total} bytes free"
        render(path, **SMALL)
        assert contents(path) == expected


TMPFS = """
import os, subprocess, sys, torch
torch.set_num_threads(1)
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from shards_helpers import contents, render
from torchgenaug.errors import ShardError
from torchgenaug.shards.render import render as render_module

render_module.check_space = lambda *arguments: None  # else it would refuse to begin
disk, whole, sizes = Path(sys.argv[2]), Path(sys.argv[3]), eval(sys.argv[4])

def resize(pages):
    subprocess.run(["mount", "-o", f"remount,size={pages * 4096}", disk], check=True)

failures = 0
for compression in (None, "gzip"):
    render(whole / str(compression), compression=compression)
    expected = contents(whole / str(compression))
    for pages in sizes:
        for file in (disk / "shards").glob("*") if (disk / "shards").exists() else ():
            file.unlink()
        for file in (disk / "shards").glob(".*") if (disk / "shards").exists() else ():
            file.unlink()
        resize(pages)
        try:
            render(disk / "shards", compression=compression)
        except ShardError as error:
            failures += 1
            assert "is full" in str(error), error
        left = contents(disk / "shards") if (disk / "shards").exists() else {}
        assert left.items() <= expected.items(), (pages, left.keys())
        resize(500)
        render(disk / "shards", compression=compression)
        assert contents(disk / "shards") == expected, pages
print("failures", failures)
"""


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "torchgenaug-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("sizes", [[1, 2, 3, 7, 12, 17], pytest.param(range(1, 26), marks=pytest.mark.slow)])
def test_a_disk_that_is_really_full(tmp_path, disk, sizes):
    here = os.path.dirname(__file__)
    child = interpreter.run(["-c", TMPFS, here, disk, tmp_path, repr([*sizes])])
    # The exit status, too: an HDF5 file that could not be closed may take the interpreter down at its end.
    assert child.returncode == 0, child.stderr
    failures = int(child.stdout.split()[-1])
    assert failures > len(sizes) // 2  # of two renders per size


def test_work_that_is_not_committed_is_bounded(tmp_path, monkeypatch):
    """While a shard is being committed the model makes the next one, and no more."""
    go_on, made = threading.Event(), []
    commit = writer.ShardWriter.commit

    def slow(self):
        assert go_on.wait(60)
        return commit(self)

    monkeypatch.setattr(writer.ShardWriter, "commit", slow)
    settings = {"count": 160, "batch_size": 2, "shard_size": 16}
    with ThreadPoolExecutor(1) as pool:
        rendering = pool.submit(render, tmp_path, progress=lambda samples, *_: made.append(samples), **settings)
        while not made or made[-1] < 30:
            time.sleep(0.01)
        time.sleep(0.3)
        reached = made[-1]
        go_on.set()
        assert len(rendering.result()) == 160
    assert reached <= 2 * 16, "one shard in the commit, and one that waits"
