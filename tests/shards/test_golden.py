"""Folders that an earlier version wrote must read the same for ever.

``golden/format-1-*``: 6 samples in 3 shards, one of each storage. Never make these files again: a test that writes
what it reads shows nothing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from torchgenaug import ShardSource, verify_shards
from torchgenaug.errors import ShardVersionError

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = sorted(path for path in GOLDEN.iterdir() if path.is_dir())
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def digests(batch):
    return {name: hashlib.sha256(values.numpy().tobytes()).hexdigest() for name, values in batch.items()}


def test_they_are_all_there():
    assert [path.name for path in FOLDERS] == sorted(EXPECTED)
    assert {name.rsplit("-", 1)[-1] for name in EXPECTED} == {"plain", "uint16", "gzip", "lz4"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
@pytest.mark.parametrize("verify", ["sample", "hash", "off"])
def test_golden_shards_read_identically(folder, verify):
    source, expected = ShardSource(folder, verify=verify), EXPECTED[folder.name]
    assert len(source) == 6
    assert source.fingerprint == expected["fingerprint"]
    assert digests(source.read(np.arange(6))) == expected["samples"]
    assert source.seeds(np.arange(6)).tolist() == expected["seeds"]
    assert source.column("label").tolist() == expected["labels"]
    image = source.read(np.array([4]))["image"][0, 0, 2]
    assert torch.equal(image, torch.tensor(expected["row"])), "values, for those who wonder what changed"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_golden_shards_verify(folder):
    assert verify_shards(folder).ok


def test_a_version_to_come_is_refused_with_the_remedy(tmp_path):
    manifest = json.loads((FOLDERS[0] / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"format_version": 2, "compression": "new"}))
    for call in (ShardSource, verify_shards):
        with pytest.raises(ShardVersionError, match=r"is of format 2.*pip install --upgrade torchgenaug"):
            call(tmp_path)
