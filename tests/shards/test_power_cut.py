"""Power cuts: no acknowledged shard is lost, no file that is there is wrong, and a resume gives the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from recorded_disk import RecordedDisk, crash_states
from shards_helpers import contents, render

from tests import clean_interpreter

SMALL = {"count": 6, "batch_size": 2, "shard_size": 4}  # two shards


def record(path, **options):
    """The events of a whole render, with a note wherever a shard counts as committed."""
    with pytest.MonkeyPatch.context() as patch:
        disk, committed = RecordedDisk(patch, path), 0

        def progress(made, total, size):
            nonlocal committed
            if size > committed:
                committed = size
                disk.acknowledge()

        render(path, **SMALL | options, progress=progress)
    return disk.events


def violations(events, expected, chance, per_moment):
    """Acknowledged shards that are lost and files that are wrong, over all states; and the states themselves."""
    lost = wrong = 0
    states = []
    for state, acknowledged in crash_states(events, chance, per_moment):
        there = {name: hashlib.sha256(content).hexdigest() for name, content in (state or {}).items()}
        final = {name: digest for name, digest in there.items() if not name.startswith(".")}
        lost += bool(acknowledged - final.keys())
        wrong += any(expected.get(name) != digest for name, digest in final.items())
        states.append(state)
    return lost, wrong, states


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize(("per_moment", "resumed"), [(24, 60), pytest.param(400, 3000, marks=pytest.mark.slow)])
def test_every_state_that_a_power_cut_may_leave(tmp_path, compression, per_moment, resumed):
    events = record(tmp_path / "whole", compression=compression)
    expected = contents(tmp_path / "whole")
    kinds = {event[0] for event in events}
    assert kinds >= {"mkdir", "sync parent", "name", "write", "sync", "rename", "sync folder", "acknowledge"}
    acknowledged = [event[1] for event in events if event[0] == "acknowledge"]
    assert [len(names) for names in acknowledged] == [1, 2]
    chance = random.Random(1)
    lost, wrong, states = violations(events, expected, chance, per_moment)
    assert (lost, wrong) == (0, 0)
    assert len(states) > 10 * len(events)
    for number, state in enumerate(chance.sample(states, min(resumed, len(states)))):
        path = tmp_path / str(number)
        if state is not None:
            path.mkdir()
            for name, content in state.items():
                (path / name).write_bytes(content)
        render(path, **SMALL, compression=compression)
        assert contents(path) == expected
        shutil.rmtree(path)


@pytest.mark.parametrize("forgotten", ["sync", "sync folder"])
def test_a_forgotten_sync_would_be_found(tmp_path, forgotten):
    events = record(tmp_path / "whole")
    missing = [event for event in events if event[0] != forgotten]
    lost, wrong, _ = violations(missing, contents(tmp_path / "whole"), random.Random(1), 24)
    assert (wrong if forgotten == "sync" else lost) > 0


CHILD = """
import os, sys, time, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from shards_helpers import render
from torchgenaug.shards import temporary
if sys.argv[3] == "without fsync":
    class Careless:
        fsync = staticmethod(lambda descriptor: None)
        __getattr__ = staticmethod(lambda name: getattr(os, name))
    temporary.os = Careless()
print("ready", flush=True)
told = 0
def progress(made, total, size):
    global told
    if size > told:
        told = size
        print(*(name for name in os.listdir(sys.argv[2]) if name.startswith("shard-")), flush=True)
    time.sleep(0.004)
render(sys.argv[2], 120, progress=progress)
print("done", flush=True)
"""


@contextlib.contextmanager
def mounted(image, place):
    place.mkdir(exist_ok=True)
    command = ["mount", "-o", "loop", str(image), str(place)]
    for _ in range(50):  # the kernel frees the device of the last time when it likes, or another process takes it
        if not subprocess.run(command, capture_output=True, check=False).returncode:
            break
        time.sleep(0.1)
    else:
        subprocess.run(command, check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def image(tmp_path):
    """A file with an ext4 file system in it, for a loop device; skips where there is none, or no right to mount it."""
    memory = Path("/dev/shm")  # many times faster than a disk on a disk
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        path = Path(folder) / "disk.img"
        with path.open("wb") as file:
            file.truncate(8 << 20)
        made = shutil.which("mkfs.ext4") and not subprocess.run(["mkfs.ext4", "-q", "-F", path], check=False).returncode
        probe = ["mount", "-o", "loop", str(path), str(tmp_path)]
        if not made or os.geteuid() or subprocess.run(probe, capture_output=True, check=False).returncode:
            pytest.skip("needs root, loop devices and mkfs.ext4")
        subprocess.run(["umount", str(tmp_path)], check=True)
        yield path


def snapshot(image, copy):
    """What has reached the disk, as of one moment: copied until nothing changes meanwhile."""
    before = None
    while before != (before := image.read_bytes()):
        pass
    copy.write_bytes(before)


def cut_power(tmp_path, image, cuts, *, how="", seed=0):
    """Renders onto the image, and looks `cuts` times at what would be there after a power cut at a random moment.

    Returns:
        How many acknowledged shards were there at those moments, and how many of them would have been lost.
    """
    render(tmp_path / "whole", 120)
    expected, moments = contents(tmp_path / "whole"), random.Random(seed)
    there, lost, copy = 0, 0, image.with_name("cut.img")
    here = os.path.dirname(__file__)
    while cuts:
        with mounted(image, tmp_path / "disk") as disk:
            shutil.rmtree(disk / "shards", ignore_errors=True)
            subprocess.run(["sync", "-f", disk], check=True)
            program = ["-c", CHILD, here, disk / "shards", how]
            child = clean_interpreter.start(program, stdout=subprocess.PIPE, text=False)
            os.set_blocking(child.stdout.fileno(), False)
            told = b""
            while b"done" not in told and cuts:
                if b"ready" in told:
                    time.sleep(moments.uniform(0, 0.15))
                    child.send_signal(signal.SIGSTOP)
                    told += child.stdout.read() or b""
                    acknowledged = set(told.decode().split()) - {"ready", "done"}
                    snapshot(image, copy)
                    child.send_signal(signal.SIGCONT)
                    cuts -= 1
                    with mounted(copy, tmp_path / "cut") as cut:
                        left = contents(cut / "shards") if (cut / "shards").exists() else {}
                        final = {name: digest for name, digest in left.items() if not name.startswith(".")}
                        assert how or final.items() <= expected.items(), "a file is not what it should be"
                        there, lost = there + len(acknowledged), lost + len(acknowledged - final.keys())
                        if not how:
                            render(cut / "shards", 120)
                            assert contents(cut / "shards") == expected
                else:
                    time.sleep(0.01)
                    assert child.poll() is None
                told += child.stdout.read() or b""
            child.kill()
            child.communicate()
    return there, lost


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cuts", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_power_cuts_on_a_disk_of_its_own(tmp_path, image, cuts):
    there, lost = cut_power(tmp_path, image, cuts, seed=cuts)
    assert there > cuts
    assert lost == 0


@pytest.mark.slow  # on a slow machine a few cuts come before the first shard, and show nothing
def test_without_fsync_a_power_cut_would_lose_shards(tmp_path, image):
    there, lost = cut_power(tmp_path, image, 3, how="without fsync", seed=3)
    assert lost > there / 2
