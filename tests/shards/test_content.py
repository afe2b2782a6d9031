"""One opening of each file: what was checked is what is read, with maps and without."""

from __future__ import annotations

import os
import pickle
import shutil
import tracemalloc

import h5py
import numpy as np
import pytest
import torch
from shards_helpers import render, shard, small_sequence

from torchgenaug import FieldSpec, FunctionSynthesizer, ShardSource, SyntheticSequence, seeding
from torchgenaug.errors import ConfigurationError, ShardCorruptError, ShardIncompleteError
from torchgenaug.shards.read import content, layout, open_shards, opened
from torchgenaug.shards.render.plan import plan_render
from torchgenaug.shards.structure import create_data_sets
from torchgenaug.shards.write.blank import blank_shard


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd"])
@pytest.mark.parametrize("dtype", [None, "uint16"])
def test_without_maps_the_samples_are_the_same(tmp_path, compression, dtype):
    mapped = render(tmp_path / "shards", compression=compression, dtype=dtype)
    order = np.random.default_rng(0).permutation(22)
    for verify in ("sample", "hash", "off"):
        source = ShardSource(tmp_path / "shards", verify=verify, mmap=False)
        for name, values in source.read(order).items():
            assert torch.equal(values, mapped.read(order)[name])
        assert torch.equal(source.column("label"), mapped.column("label"))
        assert not pickle.loads(pickle.dumps(source)).mmap
    before = len(os.listdir("/proc/self/fd"))
    del source
    assert len(os.listdir("/proc/self/fd")) < before, "handles go with the source"


def test_without_maps_few_handles_are_enough(folder, monkeypatch):
    monkeypatch.setattr(open_shards, "MAX_FILES", 2)
    before = len(os.listdir("/proc/self/fd"))
    source = ShardSource(folder, mmap=False)
    for k in range(22):
        source.read(np.array([k]))
    assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize("compression", [None, "gzip", "lz4"])
@pytest.mark.parametrize("verify", ["sample", "off"])
def test_a_file_that_is_cut_while_it_is_read_is_an_error_and_no_signal(tmp_path, compression, verify):
    render(tmp_path / "shards", compression=compression)
    source = ShardSource(tmp_path / "shards", verify=verify, mmap=False)
    source.read(np.arange(22))
    os.truncate(shard(tmp_path / "shards", 2), 700)
    with pytest.raises(ShardCorruptError, match=r"samples (8 to 11|9 to 9) as they were rendered, but it"):
        source.read(np.array([1, 9]))
    assert len(source.read(np.array([1]))["image"]) == 1


def test_network_file_systems_are_not_mapped(folder, tmp_path, monkeypatch):
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = tmp_path / "mountinfo"
    for kind, expected in {"ext4": True, "nfs4": False, "fuse.sshfs": False, "9p": False, "tmpfs": True}.items():
        table.write_text(
            "22 1 0:0 / /proc rw - proc proc rw\n"
            f"30 1 {number} / / rw,relatime shared:1 - xfs /dev/x rw\n"
            f"31 1 {number} / /data rw - {kind} host:/data rw\n"
        )
        monkeypatch.setattr(content.on_network, "__defaults__", (table,))
        assert ShardSource(folder).mmap is expected, kind
        assert ShardSource(folder, mmap=True).mmap
    monkeypatch.setattr(content.on_network, "__defaults__", (tmp_path / "absent",))
    assert ShardSource(folder).mmap


def test_an_unknown_way_is_refused(folder):
    with pytest.raises(ConfigurationError, match="`mmap` must be True, False or None, got 'no'"):
        ShardSource(folder, mmap="no")


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("verify", ["hash", "off"])
def test_a_file_that_is_swapped_while_it_is_opened_is_not_read(tmp_path, monkeypatch, mmap, verify):
    """After each check another file lies at the path; what was checked is read all the same."""
    folder, other = tmp_path / "shards", tmp_path / "other"
    render(folder)
    render(other, sequence=small_sequence(seed=6))
    expected = small_sequence().batch(range(4))["image"]
    path = shard(folder, 0)
    shutil.copy(path, tmp_path / "right")

    def swapped(function):
        def call(*arguments, **options):
            result = function(*arguments, **options)
            shutil.copy(shard(other, 0), tmp_path / "evil")
            os.replace(tmp_path / "evil", path)
            return result

        return call

    places = [(opened, "open_file"), (opened, "check_digest"), (opened, "map_file"), (opened, "read_file")]
    for module, name in [*places, (opened, "open_checked"), (layout, "file_digest")]:
        shutil.copy(tmp_path / "right", path)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, swapped(getattr(module, name)))
            found = ShardSource(folder, verify=verify, mmap=mmap).read(np.arange(4))["image"]
        assert torch.equal(found, expected), name


def test_a_file_that_was_replaced_is_hashed_again_when_it_is_opened_again(folder, monkeypatch):
    monkeypatch.setattr(open_shards, "MAX_MAPS", 1)
    source = ShardSource(folder, verify="hash")
    source.read(np.arange(22))
    path = shard(folder, 0)
    changed = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        changed[file["image"].id.get_offset()] ^= 1
    path.unlink()
    path.write_bytes(changed)
    with pytest.raises(ShardCorruptError, match="sha256 of its content"):
        source.read(np.array([0]))


def test_memory_does_not_follow_what_a_file_claims(tmp_path):
    """Some KiB on disk that claim to hold 60 million samples of 12 bytes: one is asked for."""
    rows = 60_000_000
    sequence = SyntheticSequence(FunctionSynthesizer(lambda *_: {}, {"image": FieldSpec((3,))}, fingerprint="sparse"))
    manifest = plan_render(sequence, rows, batch_size=1, shard_size=rows, compression=None, dtype=None)
    (tmp_path / "manifest.json").write_bytes(manifest.to_bytes())
    blank = blank_shard(manifest, rows, tmp_path)
    path = tmp_path / f"shard-00000.{'0' * 64}.h5"
    with open(path, "wb") as file:
        file.truncate(blank.size)
        for position, piece in blank.pieces:
            os.pwrite(file.fileno(), piece, position)
        # The first ids are right, so that the check goes on for a while.
        os.pwrite(file.fileno(), np.arange(300_000).tobytes(), blank.offsets["id"])
        seeds = seeding.derive(manifest.seed, seeding.SAMPLE, np.arange(300_000))
        os.pwrite(file.fileno(), seeds.tobytes(), blank.offsets["seed"])
    for mmap in (True, False):
        tracemalloc.start()
        try:
            with pytest.raises(ShardCorruptError, match="other ids"):
                ShardSource(tmp_path, mmap=mmap).read(np.array([5]))
            assert tracemalloc.get_traced_memory()[1] < 64 << 20
        finally:
            tracemalloc.stop()
    path.unlink()
    with pytest.raises(ShardIncompleteError, match="must hold 1 shards, got 0"):
        ShardSource(tmp_path)


@pytest.mark.parametrize("compression", ["gzip", "lz4"])
def test_ids_are_compared_before_the_chunks_are_counted(tmp_path, compression):
    """HDF5 counts for as long as a file of a few KiB claims to have chunks."""
    rows = 100_000
    sequence = SyntheticSequence(FunctionSynthesizer(lambda *_: {}, {"image": FieldSpec((3,))}, fingerprint="sparse"))
    manifest = plan_render(sequence, rows, batch_size=1, shard_size=rows, compression=compression, dtype=None)
    (tmp_path / "manifest.json").write_bytes(manifest.to_bytes())
    with h5py.File(tmp_path / f"shard-00000.{'0' * 64}.h5", "w", libver="latest") as file:
        create_data_sets(file, manifest, rows)
        file["image"].id.write_direct_chunk((0, 0), b"x" * 16)
    with pytest.raises(ShardCorruptError, match="other ids"):
        ShardSource(tmp_path).read(np.array([5]))
