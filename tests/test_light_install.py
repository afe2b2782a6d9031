"""What `docs/how-to/read-shards-only.md` promises: reading and mixing shards needs few of the core dependencies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests import clean_interpreter

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "read-shards-only.md").read_text(encoding="utf-8")

SCRIPT = """
import sys
import warnings

warnings.simplefilter("error", UserWarning)


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Absent())

import torch
from torch.utils.data import DataLoader, TensorDataset
from torchgenaug import ShardSource, SyntheticMixDataset, SyntheticMixLoader, SyntheticSequence
from torchgenaug import render_shards, verify_shards
from torchgenaug.testing import AnalyticSynthesizer

render_shards(SyntheticSequence(AnalyticSynthesizer((8, 8))), "shards", 8, batch_size=4, shard_size=4, progress=False)
source = ShardSource("shards")
assert not verify_shards("shards").damaged
real = TensorDataset(torch.rand(8, 1, 8, 8))
mixed = SyntheticMixDataset(real, source, ratio=0.5, fields=("image",), provenance=True)
assert sum(int(batch[-1]["is_synthetic"].sum()) for batch in DataLoader(mixed, 4)) == 4
loader = SyntheticMixLoader(DataLoader(real, 4), source, 0.5, fields=("image",))
assert len(list(loader)) == 2
"""


def test_shards_are_read_and_mixed_without_the_other_dependencies(tmp_path):
    named = re.search(r"pip install (torch .*)", PAGE)[1].split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = [re.match(r"[a-z0-9]+", each)[0] for each in project["dependencies"]]
    absent = set(core) - set(named)
    assert set(named) < set(core)
    assert {"torchio", "diffusers", "accelerate", "typer", "rich", "fsspec", "safetensors"} == absent
    script = SCRIPT.format(absent=absent | {"scipy", "nibabel", "SimpleITK"})
    done = clean_interpreter.run(["-c", script], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
