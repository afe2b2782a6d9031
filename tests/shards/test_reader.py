from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import traceback
from typing import ClassVar

import numpy as np
import pytest
import torch
from shards_helpers import contents, render, shard, small_sequence
from torch.utils.data import DataLoader, Dataset

from torchgenaug import ShardSource
from torchgenaug.errors import (
    ConfigurationError,
    SampleIndexError,
    ShardCorruptError,
    ShardIncompleteError,
    ShardNotFoundError,
    ShardVersionError,
)
from torchgenaug.shards.read import open_shards
from torchgenaug.testing import SourceConformance


class Conformance(SourceConformance):
    options: ClassVar[dict] = {}

    @pytest.fixture(autouse=True)
    def rendered(self, tmp_path):
        self.path = tmp_path / "shards"
        render(self.path, **self.options)

    def make(self):
        return ShardSource(self.path)

    def sequence(self):
        return small_sequence()


class TestPlain(Conformance):
    pass


class TestHashed(Conformance):
    def make(self):
        return ShardSource(self.path, verify="hash")


class TestQuantised(Conformance):
    options: ClassVar[dict] = {"dtype": "uint8"}
    tolerance = 0.51 / 255


class TestHalf(Conformance):
    options: ClassVar[dict] = {"dtype": "float16"}
    tolerance = 2**-10


class TestLz4(Conformance):
    options: ClassVar[dict] = {"compression": "lz4"}


class TestQuantisedZstd(Conformance):
    options: ClassVar[dict] = {"compression": "zstd", "dtype": "uint16"}
    tolerance = 0.51 / 65535


class TestGzip(Conformance):
    options: ClassVar[dict] = {"compression": "gzip"}

    def make(self):
        return ShardSource(self.path, verify="off")


def test_any_order_across_shards(folder):
    source, sequence = ShardSource(folder), small_sequence()
    positions = np.random.default_rng(0).integers(0, 22, 200)
    batch = source.read(positions)
    for row in range(0, 200, 17):
        expected = sequence.batch([int(positions[row])])
        assert all(torch.equal(batch[name][row], value[0]) for name, value in expected.items())


class Reads(Dataset):
    """Whole batches through `__getitems__`, as the mixed data set reads."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitems__(self, indices):
        return self.source.read(np.asarray(indices))


def unchanged(batch):
    return batch


@pytest.mark.parametrize(("method", "compression"), [("fork", None), ("fork", "lz4"), ("spawn", "lz4")])
def test_workers_read_what_the_parent_reads(tmp_path, method, compression):
    source = render(tmp_path / "shards", compression=compression)
    expected = source.read(np.arange(22))  # the parent has its files open when the workers start
    loader = DataLoader(
        Reads(source), 5, num_workers=2, multiprocessing_context=method, persistent_workers=True, collate_fn=unchanged
    )
    for _ in range(2):
        batches = list(loader)
        for name, value in expected.items():
            assert torch.equal(torch.cat([batch[name] for batch in batches]), value)
    del loader


def test_errors_reach_the_parent_of_a_worker(folder):
    content = bytearray(shard(folder, 1).read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    shard(folder, 1).write_bytes(content)
    with pytest.raises(ShardCorruptError, match="shard-00001") as raised:
        list(DataLoader(Reads(ShardSource(folder)), 4, num_workers=1, collate_fn=unchanged))
    traceback.clear_frames(raised.tb)  # collected later, the iterator would wait five seconds for its worker


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_threads_may_share_a_source(tmp_path, compression, monkeypatch):
    monkeypatch.setattr(open_shards, "MAX_MAPS", 2)
    monkeypatch.setattr(open_shards, "MAX_FILES", 2)
    source = render(tmp_path / "shards", compression=compression)
    expected = source.read(np.arange(22))["image"]
    failures = []

    def work(seed):
        positions = np.random.default_rng(seed).integers(0, 22, (30, 7))
        try:
            failures.extend(seed for p in positions if not torch.equal(source.read(p)["image"], expected[p]))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_pickle_is_small_and_holds_no_samples(tmp_path):
    source = render(tmp_path / "shards", count=200, batch_size=1, shard_size=1)
    source.read(np.arange(200))
    assert len(pickle.dumps(source)) < 3000 + 33 * 200


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_few_file_handles_are_enough_for_many_shards(tmp_path, monkeypatch, compression):
    monkeypatch.setattr(open_shards, "MAX_FILES", 8)
    render(tmp_path / "shards", count=100, batch_size=1, shard_size=1, compression=compression)
    source = ShardSource(tmp_path / "shards")
    before = len(os.listdir("/proc/self/fd"))
    positions = np.random.default_rng(0).permutation(100)
    for _ in range(2):
        source.read(positions)
    assert len(os.listdir("/proc/self/fd")) - before <= (8 if compression else 0)


def test_nothing_is_written_and_a_read_only_folder_will_do(folder):
    before, times = contents(folder), {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    try:
        source = ShardSource(folder, verify="hash")
        source.read(np.arange(22))
        source.column("label")
    finally:
        folder.chmod(0o755)
    assert contents(folder) == before
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == times


def test_other_files_in_the_folder_are_passed_over(folder):
    (folder / "preview.png").write_bytes(b"x")
    (folder / ".torchgenaug-0123.tmp").write_bytes(b"half a shard")
    assert len(ShardSource(folder)) == 22


def test_columns_do_not_read_images(folder):
    source = ShardSource(folder)
    labels = source.column("label")
    manifest = source.manifest
    for index in range(manifest.num_shards):
        path = shard(folder, index)
        offset = source._shards().get([index])[index].offsets["image"]
        content = bytearray(path.read_bytes())
        content[offset : offset + 64] = bytes(64)
        path.write_bytes(content)
    assert torch.equal(ShardSource(folder).column("label"), labels)
    with pytest.raises(ShardCorruptError):
        ShardSource(folder).read(np.arange(22))
    with pytest.raises(ConfigurationError, match=r"single numbers, \['label'\], got 'image'"):
        source.column("image")


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([22], r"in \[0, 22\), got 22 to 22"),
        ([-1, 3], r"got -1 to 3"),
        ([0.5], "must be a list of integers, got float64"),
        ([[0]], "of shape"),
        ([True], "got bool"),
    ],
)
def test_bad_positions(folder, positions, message):
    source = ShardSource(folder)
    for call in (source.read, source.ids, source.seeds):
        with pytest.raises(SampleIndexError, match=message):
            call(np.array(positions))


def test_every_flipped_bit_is_found(folder):
    """A flip anywhere in the file gives the very samples that were rendered, or an error. Never anything else."""
    path = shard(folder, 2)
    intact, expected = path.read_bytes(), ShardSource(folder).read(np.arange(8, 12))
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        content = bytearray(intact)
        content[random.integers(len(content))] ^= 1 << random.integers(8)
        path.write_bytes(content)
        try:
            batch = ShardSource(folder).read(np.arange(8, 12))
        except ShardCorruptError:
            refused += 1
        else:
            assert all(torch.equal(batch[name], value) for name, value in expected.items())
        with pytest.raises(ShardCorruptError, match="sha256 of its content"):
            ShardSource(folder, verify="hash").read(np.array([8]))
    assert refused > 75  # the others hit padding


def test_swapped_and_zeroed_samples_are_refused(folder):
    source = ShardSource(folder)
    offset = source._shards()
    path = shard(folder, 0)
    offset = offset.get([0])[0].offsets["image"]
    intact = path.read_bytes()
    size = 8 * 8 * 4
    first, second = intact[offset : offset + size], intact[offset + size : offset + 2 * size]
    for damage, ids in ((second + first, "0-1"), (bytes(size) + second, "0"), (first + first, "1")):
        path.write_bytes(intact[:offset] + damage + intact[offset + 2 * size :])
        with pytest.raises(ShardCorruptError, match=rf"shard-00000.*'image' is wrong for ids {ids}\..*--repair"):
            ShardSource(folder).read(np.arange(4))
        ShardSource(folder, verify="off").read(np.arange(4))


@pytest.mark.parametrize("size", [0, 1, 500, 1500, -1])
@pytest.mark.parametrize("verify", ["sample", "hash", "off"])
def test_truncated_files_are_refused(folder, size, verify):
    path = shard(folder, 1)
    os.truncate(path, size % path.stat().st_size if size < 0 else size)
    source = ShardSource(folder, verify=verify)
    with pytest.raises(ShardCorruptError, match=r"shard-00001.* must hold samples 4 to 7 .*resume='verify'"):
        source.read(np.array([5]))
    source.read(np.array([0, 9]))  # the others are as good as ever


def test_a_shard_of_another_render_is_refused(folder, tmp_path):
    render(tmp_path / "other", sequence=small_sequence(seed=6))
    shard(folder, 1).unlink()
    shutil.copy(shard(tmp_path / "other", 1), folder)
    with pytest.raises(ShardCorruptError, match="belongs to another render"):
        ShardSource(folder).read(np.array([5]))


def test_a_shard_under_another_number_is_refused(folder):
    moved = shard(folder, 2).name.replace("shard-00002", "shard-00001")
    shard(folder, 1).unlink()
    shutil.copy(shard(folder, 2), folder / moved)
    with pytest.raises(ShardCorruptError, match="it says that it holds other ids"):
        ShardSource(folder, verify="hash").read(np.array([5]))


def test_incomplete_folders_say_what_is_missing(folder):
    shard(folder, 1).unlink()
    shard(folder, 5).unlink()
    with pytest.raises(
        ShardIncompleteError, match=r"6 shards, got 4: ids 4-7, 20-21 .*torchgenaug render .*--count 22"
    ):
        ShardSource(folder)


def test_a_shard_that_vanishes_is_named(folder):
    source = ShardSource(folder)
    source.read(np.array([0]))
    shard(folder, 1).unlink()
    with pytest.raises(ShardIncompleteError, match="samples 4 to 7"):
        source.read(np.array([5]))


def test_absent_newer_and_odd(folder, tmp_path):
    with pytest.raises(ShardNotFoundError, match="does not exist"):
        ShardSource(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=r"`verify` must be one of .* got 'always'"):
        ShardSource(folder, verify="always")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 3'))
    with pytest.raises(ShardVersionError, match="is of format 3"):
        ShardSource(folder)
    manifest.write_text("{")
    with pytest.raises(ShardCorruptError, match="must be a manifest"):
        ShardSource(folder)


def test_any_h5py_user_can_read_a_shard(folder):
    """Without torchgenaug, and by the formula of the manifest for quantised fields."""
    code = """
import json, sys, h5py
with h5py.File(sys.argv[1], "r") as file:
    assert sorted(file) == ["checksum", "id", "image", "label", "mask", "seed"]
    assert file["image"].shape == (4, 1, 8, 8) and file["image"].dtype == "float32"
    print(json.dumps([file[name][:].tolist() for name in ("id", "seed", "image", "label")]))
assert "torchgenaug" not in sys.modules
"""
    arguments = [sys.executable, "-c", code, str(shard(folder, 1))]
    ids, seeds, images, labels = json.loads(
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=300).stdout
    )
    sequence = small_sequence()
    assert ids == [4, 5, 6, 7]
    assert seeds == sequence.seeds(ids).tolist()
    assert labels == sequence.condition(ids)["label"].tolist()
    assert torch.equal(torch.tensor(images), sequence.batch(ids)["image"])
