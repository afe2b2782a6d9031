"""Renders that are killed without warning, again and again, and go on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from shards_helpers import contents, render

from tests import interpreter

CHILD = """
import sys, time, torch
torch.set_num_threads(1)
from torchgenaug import ClassLabels, SyntheticSequence, render_shards
from torchgenaug.testing import AnalyticSynthesizer

class Slow(AnalyticSynthesizer):
    def synthesize(self, seeds, conditions=None):
        time.sleep(float(sys.argv[2]))
        return super().synthesize(seeds, conditions)

sequence = SyntheticSequence(Slow((8, 8), num_classes=3), ClassLabels(3), seed=5)
print("ready", flush=True)
render_shards(sequence, sys.argv[1], 120, batch_size=2, shard_size=4, compression=sys.argv[3] or None, progress=False)
print("done", flush=True)
"""


def start(path, pause=0.004, compression=""):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return interpreter.start(["-c", CHILD, path, pause, compression], **pipes)


NURSERY = CHILD.replace(
    'print("ready", flush=True)\n',
    """
import os
import h5py  # as late as the first shard otherwise, and it takes longer than most of these renders live
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        break
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
else:
    sys.exit(0)
""",
).replace('print("done", flush=True)', "os._exit(0)")


def campaign(tmp_path, kills, compression, seed):
    """Kills renders at random moments. They are forked by a process that has imported everything: many per second."""
    render(tmp_path / "whole", 120, compression=compression or None)
    expected, moments = contents(tmp_path / "whole"), random.Random(seed)
    path, committed = tmp_path / "shards", set()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    nursery = interpreter.start(["-c", NURSERY, path, 0.004, compression], **pipes)
    killed = redone = 0
    while killed < kills or (not redone and killed < 5 * kills):
        nursery.stdin.write("go\n")
        nursery.stdin.flush()
        child = int(nursery.stdout.readline())
        time.sleep(moments.uniform(0, 0.25))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status = int(nursery.stdout.readline())
        names = contents(path) if path.exists() else {}
        shards = {name for name in names if name.startswith("shard-")}
        assert committed <= shards, "a committed shard is gone"
        assert all(names[name] == expected[name] for name in shards), "a shard is not what it should be"
        killed += os.WIFSIGNALED(status)
        unfinished = len([name for name in names if name.endswith(".tmp")])
        assert unfinished <= 1
        redone += unfinished
        committed = shards
        if len(shards) == 30:
            shutil.rmtree(path)
            committed = set()
    nursery.communicate(timeout=300)
    assert nursery.returncode == 0
    render(path, 120, compression=compression or None)
    assert contents(path) == expected
    assert redone > 0, "none of the kills hit a shard in the making"


def test_killed_renders_lose_nothing(tmp_path):
    campaign(tmp_path, 12, "", seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_killed_200_times(tmp_path, compression):
    campaign(tmp_path, 200, compression, seed=2)


def test_interrupt_ends_at_once_and_says_how_to_go_on(tmp_path):
    child = start(tmp_path / "shards", pause=0.05)
    assert child.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    while not list((tmp_path / "shards").glob("shard-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=300)
    assert child.returncode not in (0, None)
    assert "of 30 shards are complete" in errors
    assert "Run the same render again to make the rest." in errors
    assert not list((tmp_path / "shards").glob(".*"))


def test_the_same_render_twice_at_once(tmp_path):
    children = [start(tmp_path / "shards", pause=0.002) for _ in range(2)]
    for child in children:
        out, errors = child.communicate(timeout=300)
        assert out.endswith("done\n"), errors
    render(tmp_path / "whole", 120)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")
