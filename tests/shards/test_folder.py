from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from shards_helpers import shard

from tests import interpreter
from torchgenaug import ShardSource
from torchgenaug.errors import ShardCorruptError, ShardNotFoundError
from torchgenaug.shards import verify_shards
from torchgenaug.shards.folder import list_shards, read_manifest, some_ranges
from torchgenaug.shards.temporary import TemporaryFile, remove_abandoned


def test_commit_makes_the_file_appear_whole(tmp_path):
    temporary = TemporaryFile(tmp_path)
    os.write(temporary.descriptor, b"content")
    assert not (tmp_path / "name").exists()
    assert temporary.commit("name")
    assert (tmp_path / "name").read_bytes() == b"content"
    temporary.discard()
    assert os.listdir(tmp_path) == ["name"]


def test_exclusive_commit_leaves_what_is_there(tmp_path):
    (tmp_path / "name").write_text("first")
    temporary = TemporaryFile(tmp_path)
    assert not temporary.commit("name", exclusive=True)
    assert (tmp_path / "name").read_text() == "first"
    assert os.listdir(tmp_path) == ["name"]


def test_discard_leaves_nothing(tmp_path):
    TemporaryFile(tmp_path).discard()
    assert os.listdir(tmp_path) == []


def test_only_files_of_dead_processes_are_removed(tmp_path):
    ours = TemporaryFile(tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from torchgenaug.shards.temporary import TemporaryFile; "
        "TemporaryFile(Path(sys.argv[1])); os._exit(0)"
    )
    assert interpreter.run(["-c", code, tmp_path]).returncode == 0
    assert len(os.listdir(tmp_path)) == 2
    assert remove_abandoned(tmp_path) == 1
    assert os.listdir(tmp_path) == [ours.path.name]
    ours.discard()


def test_links_to_files_are_shards(folder, tmp_path):
    """As DVC, git-annex, `cp -s` and hub caches leave them."""
    expected = ShardSource(folder).read(np.arange(20))["image"]
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for file in list(folder.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(blobs / file.name)
    assert torch.equal(ShardSource(folder, verify="hash").read(np.arange(20))["image"], expected)
    assert not verify_shards(folder).damaged


@pytest.mark.parametrize("target", ["/dev/zero", "nowhere", "."])
def test_links_to_anything_else_are_not_shards(folder, target):
    file = shard(folder, 2)
    file.unlink()
    file.symlink_to(target)
    with pytest.raises(ShardCorruptError, match="or a link to one, got something else"):
        list_shards(folder)


def test_a_manifest_is_a_file_of_the_folder(folder, tmp_path):
    manifest = folder / "manifest.json"
    manifest.rename(tmp_path / "elsewhere.json")
    with pytest.raises(ShardNotFoundError, match=r"holds no manifest.json.*torchgenaug render"):
        read_manifest(folder)
    manifest.symlink_to("/dev/zero")
    with pytest.raises(ShardCorruptError, match="a regular file, or a link to one"):
        read_manifest(folder)
    manifest.unlink()
    manifest.symlink_to(tmp_path / "elsewhere.json")
    assert read_manifest(folder).count == 22
    manifest.unlink()
    with pytest.raises(ShardNotFoundError, match="does not exist"):
        read_manifest(folder / "deeper")
    with pytest.raises(FileNotFoundError):
        read_manifest(folder / "manifest.json")


def test_ranges_as_text():
    assert some_ranges([0, 1, 2, 5]) == "0-2, 5"
    assert some_ranges([0, 2], unit=4, end=10) == "0-3, 8-9"
    assert some_ranges(range(0, 40, 2)).endswith("… (20 ranges)")
