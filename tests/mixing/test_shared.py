from __future__ import annotations

import shutil
import subprocess

import pytest
import torch

from tests import clean_interpreter
from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.shared import shared


def test_it_is_the_same_tensor():
    values = torch.arange(3)
    assert shared(values) is values
    assert values.is_shared()


FULL = """
import torch, torchgenaug as t
from torchgenaug.testing import AnalyticSynthesizer
torch.set_num_threads(1)
with open("/dev/shm/full", "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass
pool = t.SyntheticPool(t.SyntheticSequence(AnalyticSynthesizer((8, 8))), 8)
print(len(pool.read([0, 7])["image"]), flush=True)
t.SyntheticMixDataset([{"image": torch.rand(1, 8, 8)}] * 8, pool, ratio=0.5)
"""


def test_full_shared_memory_is_named_with_its_numbers_and_ways_out():
    """A pool needs none; the mix needs a few bytes."""
    private = ["unshare", "--mount", "--propagation", "private"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "torchgenaug-test", "/dev/shm"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*private, *mount], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to mount a file system")
    child = clean_interpreter.run(["-c", clean_interpreter.small_shared_memory("64k") + FULL])
    assert child.stdout == "2\n", child.stderr
    assert "ConfigurationError: Shared memory (/dev/shm) must have room for " in child.stderr
    assert "got 0 of its 65,536 bytes free" in child.stderr
    assert "docker run --shm-size=8g" in child.stderr


def test_where_there_is_no_such_folder(monkeypatch):
    from torchgenaug.mixing.dataset import shared as module

    def refuse(self):
        raise RuntimeError("unable to allocate shared memory")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    monkeypatch.setattr(module, "_SHARED_MEMORY", "/nowhere")
    with pytest.raises(ConfigurationError, match="got an unknown part free: unable to allocate"):
        shared(torch.zeros(2))
