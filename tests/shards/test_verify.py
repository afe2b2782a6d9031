from __future__ import annotations

import hashlib
import os
import shutil

import h5py
import pytest
from shards_helpers import render, shard

from torchgenaug import verify_shards
from torchgenaug.errors import ConfigurationError, ShardCorruptError, ShardNotFoundError


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_intact_folder(tmp_path, compression):
    render(tmp_path / "shards", compression=compression)
    seen = []
    report = verify_shards(tmp_path / "shards", progress=lambda done, total: seen.append((done, total)))
    assert report.ok
    assert report.bad_ids == []
    assert seen == [(k, 6) for k in range(1, 7)]
    assert report.num_bytes == sum(file.stat().st_size for file in (tmp_path / "shards").glob("shard-*"))
    assert "everything is as it was rendered" in str(report)


def test_damaged_and_missing_ids_are_named(folder):
    content = bytearray(shard(folder, 1).read_bytes())
    content[-1] ^= 1
    shard(folder, 1).write_bytes(content)
    os.truncate(shard(folder, 2), 0)
    shard(folder, 5).unlink()
    report = verify_shards(folder)
    assert not report.ok
    assert (report.damaged_shards, report.missing_shards) == ((1, 2), (5,))
    assert report.bad_ids == [range(4, 8), range(8, 12), range(20, 22)]
    for line in ("damaged ids: 4-11", "missing ids: 20-21", "--repair", "sha256 of its content"):
        assert line in str(report)


def test_an_intact_file_of_the_wrong_place_is_damage(folder, tmp_path):
    render(tmp_path / "other", count=22, batch_size=1)
    shard(folder, 0).unlink()
    shutil.copy(shard(tmp_path / "other", 0), folder)
    shutil.copy(shard(folder, 1), folder / shard(folder, 1).name.replace("shard-00001", "shard-00009"))
    report = verify_shards(folder)
    assert report.damaged_shards == (0,)
    assert sorted(reason for reason in report.damaged.values()) == [
        "it belongs to another render than the manifest of its folder",
        "the plan has only 6 shards",
    ]


def test_wrong_checksums_under_a_right_hash(folder):
    """A file that was made to deceive carries the hash of its own content."""
    path = shard(folder, 3)
    with h5py.File(path, "r+") as file:
        file["image"][2] += 1
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(folder / f"shard-00003.{digest}.h5")
    report = verify_shards(folder)
    assert list(report.damaged.values()) == ["the checksum of field 'image' is wrong for id 14"]


def test_samples_too_large_for_memory_are_refused(folder):
    needed = 8 * 8 * 4 + 8 * 8 * 8 + 8
    with pytest.raises(ConfigurationError, match=f"`max_sample_bytes` must be at least {needed} .*Nothing was read"):
        verify_shards(folder, max_sample_bytes=needed - 1)
    assert verify_shards(folder, max_sample_bytes=needed).ok


def test_no_folder_and_no_manifest(folder):
    with pytest.raises(ShardNotFoundError):
        verify_shards(folder / "deeper")
    (folder / "manifest.json").write_bytes(b"{}")
    with pytest.raises(ShardCorruptError):
        verify_shards(folder)
