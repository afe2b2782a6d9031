"""Few file handles, little shared memory, ten thousand shards, folders that are read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from shards_helpers import contents, render

from tests import clean_interpreter
from torchgenaug import FieldSpec, FunctionSynthesizer, ShardSource, SyntheticSequence, render_shards, seeding

MANY = """
import os, resource, sys
import numpy as np, torch
torch.set_num_threads(1)
from torch.utils.data import DataLoader
from torchgenaug import ShardSource, SyntheticMixDataset

real = [{"image": torch.rand(1, 2, 2)} for _ in range(2000)]
source = ShardSource(sys.argv[1])
list(DataLoader(real, batch_size=1000, num_workers=1))  # what the loader itself needs is open now
before = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (before + 60, before + 60))
seen = source.read(np.random.default_rng(0).permutation(len(source)))["image"]
assert len(seen) == len(source)
assert len(os.listdir("/proc/self/fd")) == before, "maps hold no handles"
mixed = SyntheticMixDataset(real, source, ratio=0.5)
for workers in (0, 2):
    assert sum(len(batch["image"]) for batch in DataLoader(mixed, batch_size=100, num_workers=workers)) == 2000
print("fine", len(source.manifest.fields), source.manifest.num_shards)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """10,000 shards of one sample."""

    def model(seeds, conditions):
        return {"image": seeding.normal(seeds, (1, 2, 2))}

    synthesizer = FunctionSynthesizer(model, {"image": FieldSpec((1, 2, 2))}, fingerprint="many")
    path = tmp_path_factory.mktemp("many") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # 20,000 of them; what they are for is tested elsewhere
        render_shards(SyntheticSequence(synthesizer), path, 10_000, batch_size=1, shard_size=1, progress=False)
    return path


@pytest.mark.slow
def test_ten_thousand_shards_with_sixty_handles(many):
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(many)], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "fine 1 10000\n"


SMALL_SHM = """
import sys, numpy as np, torch
from torch.utils.data import DataLoader
from torchgenaug import ShardSource, SyntheticMixDataset
torch.set_num_threads(1)
source = ShardSource(sys.argv[1])
shape = source.fields["image"].shape
real = [{"image": torch.rand(shape), "mask": torch.zeros(shape).long(), "label": 0} for _ in range(32)]
mixed = SyntheticMixDataset(real, source, ratio=0.5)
print(len(mixed[0]), flush=True)
for batch in DataLoader(mixed, batch_size=int(sys.argv[2]), num_workers=2):
    pass
print("fine")
"""


def test_little_shared_memory_is_enough_or_named(tmp_path):
    """Shards need none; batches that workers send do, and torch says so."""
    private = ["unshare", "--mount", "--propagation", "private"]
    probe = [*private, "mount", "-t", "tmpfs", "-o", "size=256k", "torchgenaug-test", "/dev/shm"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    render(tmp_path / "shards", count=32)
    outcomes = {}
    for batch_size, size in ((2, "256k"), (16, "8k")):
        code = clean_interpreter.small_shared_memory(size) + SMALL_SHM
        outcomes[batch_size] = clean_interpreter.run(["-c", code, tmp_path / "shards", batch_size])
    assert outcomes[2].stdout.endswith("fine\n"), outcomes[2].stderr
    assert outcomes[16].stdout == "3\n", "without workers it does not matter"
    assert outcomes[16].returncode != 0
    assert "shared memory" in outcomes[16].stderr or "No space left" in outcomes[16].stderr


def test_a_read_only_file_system(tmp_path):
    """Really read-only, for root too; as a snapshot on a network file system is."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "torchgenaug-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        for compression in (None, "gzip", "lz4"):
            render(place / str(compression), compression=compression)
        before = {name: contents(place / name) for name in os.listdir(place)}
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        with pytest.raises(OSError, match="Read-only file system"):
            (place / "new").touch()
        images = []
        for name in before:
            for verify in ("sample", "hash", "off"):
                source = ShardSource(place / name, verify=verify)
                images.append(source.read(np.arange(22))["image"])
                source.column("label")
        assert all(torch.equal(image, images[0]) for image in images)
        assert {name: contents(place / name) for name in before} == before
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
