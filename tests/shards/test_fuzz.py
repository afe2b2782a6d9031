"""Random mutations of valid shards, read in a child process under a limit of its memory.

The long campaign, 10,000 files: ``python -m pytest tests/shards/test_fuzz.py -m slow``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
from hdf5_checksums import metadata, rechecked
from shards_helpers import render, shard

from tests import interpreter
from torchgenaug import ShardSource

COMPRESSIONS = {"plain": None, "gzip": "gzip", "lz4": "lz4"}
# Reads each folder named on stdin as both "sample" and "off" and says what came of it.
CHILD = """
import resource, signal, sys
import numpy as np
import torch
torch.set_num_threads(1)
from torchgenaug import ShardSource
from torchgenaug.errors import ShardError
import h5py, hdf5plugin
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
for line in sys.stdin:
    answers = []
    signal.alarm(30)  # a file that hangs HDF5 counts as one that killed it
    for verify in ("sample", "off"):
        try:
            batch = ShardSource(line.strip(), verify=verify).read(np.arange(4, 8))
        except ShardError as error:
            answers.append("refused")
        except BaseException as error:
            answers.append(f"{type(error).__name__}:{error}".replace(" ", "_").replace("\\n", "_"))
        else:
            import hashlib
            content = b"".join(values.numpy().tobytes() for values in batch.values())
            answers.append(hashlib.sha256(content).hexdigest())
    print(*answers, flush=True)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    for name, compression in COMPRESSIONS.items():
        render(path / name, 8, compression=compression)
    return path


class Child:
    """A process that reads what it is told, and is replaced when it dies."""

    def __init__(self):
        self.process, self.deaths = None, []

    def read(self, folder):
        if self.process is None:
            self.process = interpreter.start(
                ["-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.deaths.append((str(folder), self.process.wait()))
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None
            return None
        return line.split()

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(timeout=300)
            self.process.stdout.close()


def mutated(content, random):
    """A file that differs in some bytes; in half of the cases HDF5's own checksums are made right again."""
    out = bytearray(content)
    kind = random.integers(6)
    parts = metadata(content)
    if kind < 3:  # where it hurts: in the metadata
        start, end = parts[random.integers(len(parts))]
        for _ in range(random.integers(1, 4)):
            place = int(random.integers(start, end))
            out[place] = random.choice([0, 1, 0x7F, 0x80, 0xFF, int(random.integers(256))])
    elif kind == 3:
        for place in random.integers(0, len(out), int(random.integers(1, 30))):
            out[place] = random.integers(256)
    elif kind == 4:  # a stretch from elsewhere in the file
        size = int(random.integers(1, 300))
        source, target = random.integers(0, len(out) - size, 2)
        out[target : target + size] = out[source : source + size]
    else:
        out = out[: random.integers(len(out))] if random.integers(2) else out + random.bytes(100)
    return rechecked(bytes(out)) if random.integers(4) else bytes(out)


def fuzz(finished, tmp_path, count, seed):
    random = np.random.default_rng(seed)
    outcomes, wrong = Counter(), []
    intact, expected = {}, {}
    for name in COMPRESSIONS:
        shutil.copytree(finished / name, tmp_path / name)
        intact[name] = shard(tmp_path / name, 1).read_bytes()
        batch = ShardSource(tmp_path / name).read(np.arange(4, 8))
        expected[name] = hashlib.sha256(b"".join(values.numpy().tobytes() for values in batch.values())).hexdigest()
    with contextlib.closing(Child()) as child:
        for k in range(count):
            name = list(COMPRESSIONS)[k % len(COMPRESSIONS)]
            content = mutated(intact[name], random)
            shard(tmp_path / name, 1).unlink()
            # The name is the right one for this content: hashing would not notice.
            (tmp_path / name / f"shard-00001.{hashlib.sha256(content).hexdigest()}.h5").write_bytes(content)
            answers = child.read(tmp_path / name)
            if answers is None:
                outcomes["died"] += 1
                continue
            checked, unchecked = answers
            outcomes["refused" if checked == "refused" else "read"] += 1
            # Without checksums of samples other values are no surprise; anything but ShardError is.
            if checked not in ("refused", expected[name]) or not (unchecked == "refused" or len(unchecked) == 64):
                wrong.append((k, name, answers))
    return outcomes, wrong, child.deaths


def test_mutated_files_are_refused_or_read_right(finished, tmp_path):
    outcomes, wrong, deaths = fuzz(finished, tmp_path, 60, seed=0)
    assert wrong == []
    assert deaths == []
    assert outcomes["refused"] > 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_mutated_files(finished, tmp_path):
    outcomes, wrong, deaths = fuzz(finished, tmp_path, 10_000, seed=1)
    print(json.dumps(outcomes))
    assert wrong == []
    assert deaths == []
    assert outcomes["refused"] > 5_000
