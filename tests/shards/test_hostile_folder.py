"""Hostile folders: manifests, names, links and special files, and files whose structure hides something."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import struct
from random import Random

import h5py
import numpy as np
import pytest
from hdf5_checksums import metadata, rechecked
from shards_helpers import contents, render, shard

from torchgenaug import ShardSource, verify_shards
from torchgenaug.errors import ConfigurationError, ShardCorruptError, ShardError
from torchgenaug.shards import format as shard_format

SMALL = {"count": 6, "batch_size": 2, "shard_size": 2}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "shards"
    render(path, **SMALL)
    return path


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "shards")
    return tmp_path / "shards"


def text(*replacements):
    """Edits of the manifest as text, where JSON values would not do."""

    def edit(content):
        for old, new in replacements:
            assert old in content
            content = content.replace(old, new, 1)
        return content

    return edit


def value(name, number):
    return lambda content: json.dumps(json.loads(content) | {name: number})


MANIFESTS = {
    "key twice": text(('"count": 6', '"count": 4,\n  "count": 6')),
    "nested key twice": text(('"scale": 1.0', '"scale": 2.0, "scale": 1.0')),
    "field twice": text(('"image": {', '"image": {}, "image": {')),
    "NaN": text(('"scale": 1.0', '"scale": NaN')),
    "Infinity": text(('"trained_on": null', '"trained_on": [-Infinity]')),
    "float out of range": text(('"trained_on": null', '"trained_on": 1e999')),
    "integer of 5000 digits": text(('"count": 6', f'"count": {"9" * 5000}')),
    "deep": text(('"trained_on": null', f'"trained_on": {"[" * 50_000}{"]" * 50_000}')),
    "comment": text(("{", "{ // ours\n")),
    "two documents": lambda content: content + content,
    "field named ..": text(('"image": {', '"..": {')),
    "field with a slash": text(('"image": {', '"/etc/passwd": {')),
    "field mid-path": text(('"image": {', '"image/../mask": {')),
    "field with NUL": text(('"image": {', '"image\\u0000": {')),
    "field with a line end": text(('"image": {', '"image\\n": {')),
    "compression is a path": value("compression", "../../lib.so"),
    "sequence is a path": value("sequence", "/etc/passwd"),
    "more files than a folder holds": value("count", 1 << 48),
    "count is true": value("count", True),
    "count is text": value("count", "6"),
    "batch of zero": value("batch_size", 0),
    "shard size of 2^62": value("shard_size", 1 << 62),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_hostile_manifests_are_refused(copy, name):
    path = copy / "manifest.json"
    path.write_text(MANIFESTS[name](path.read_text()))
    for call in (ShardSource, verify_shards):
        with pytest.raises(ShardCorruptError, match=r"manifest\.json must be a manifest of format 1"):
            call(copy)


ODD = [
    None,
    True,
    0,
    -1,
    1 << 31,
    1 << 64,
    10**30,
    1e308,
    "",
    "float32",
    "\ud800",
    "\0",
    "../",
    [],
    [1],
    [[]],
    {},
    [1 << 40],
]


def places(value, path=()):
    """The path of every value in a JSON value."""
    if path:
        yield path
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(entry, (*path, key))


def odd_manifest(content, random):
    """A manifest with some bytes changed, or with some values replaced, removed or added."""
    if random.random() < 0.3:
        out = bytearray(content)
        for _ in range(random.randint(1, 4)):
            out[random.randrange(len(out))] = random.randrange(256)
        return bytes(out)
    values = json.loads(content)
    for _ in range(random.randint(1, 2)):
        *outer, last = random.choice(list(places(values)))
        target = values
        for key in outer:
            target = target[key]
        what = random.random()
        if what < 0.7:
            target[last] = random.choice(ODD)
        elif what < 0.85:
            del target[last]
        elif isinstance(target, dict):
            target[random.choice(["a", "image\n", "id", ""])] = random.choice(ODD)
    return json.dumps(values).encode()


def test_mutated_manifests_are_refused_or_sound(finished):
    content, random = (finished / "manifest.json").read_bytes(), Random(0)
    refused = 0
    for _ in range(1500):
        changed = odd_manifest(content, random)
        try:
            manifest = shard_format.Manifest.from_bytes(changed)
        except ShardError:
            refused += 1
            continue
        assert shard_format.Manifest.from_bytes(manifest.to_bytes()) == manifest
        assert 0 < manifest.num_shards <= shard_format.MAX_SHARDS
        assert manifest.sample_bytes() > 0
        assert len(manifest.render_id) == 64
    assert refused > 1000


def test_a_huge_manifest_is_not_read(copy):
    os.truncate(copy / "manifest.json", 1 << 40)  # sparse: it takes no space
    with pytest.raises(ShardCorruptError, match="at most 32 MiB"):
        ShardSource(copy)


def test_a_terabyte_of_nothing_is_not_hashed(copy):
    os.truncate(shard(copy, 1), 1 << 40)  # sparse: it takes no space
    assert "more than any shard" in verify_shards(copy).damaged[shard(copy, 1).name]
    with pytest.raises(ShardCorruptError, match="more than any shard"):
        ShardSource(copy, verify="hash").read([2])


def test_samples_larger_than_the_cap_are_refused_before_a_file_is_opened(copy, monkeypatch):
    path = copy / "manifest.json"
    values = json.loads(path.read_text())
    values["fields"]["image"]["shape"] = [1 << 20, 1 << 20, 4]
    path.write_text(json.dumps(values))
    small = render(copy.parent / "small", **SMALL).path
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(ConfigurationError, match=r"`max_sample_bytes` must be at least 17,592,.*got 4,294,967,296"):
        ShardSource(copy)
    with pytest.raises(ConfigurationError, match=r"at least 776 .*got 775\. Nothing was read"):
        ShardSource(small, max_sample_bytes=775)
    assert len(ShardSource(small, max_sample_bytes=776)) == 6


def folder_in_place(path, secret):
    path.mkdir()


def dangling_link(path, secret):
    path.symlink_to(secret.parent / "nowhere")


def link_to_itself(path, secret):
    path.symlink_to(path.name)


def fifo(path, secret):
    os.mkfifo(path)


def device(path, secret):
    path.symlink_to("/dev/zero")


def unix_socket(path, secret):
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets are limited to 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("what", ["manifest", "shard"])
@pytest.mark.parametrize(
    "make", [folder_in_place, dangling_link, link_to_itself, fifo, device, unix_socket], ids=lambda f: f.__name__
)
def test_only_regular_files_are_opened(copy, tmp_path, make, what, opens):
    secret = tmp_path / "secret"
    path = copy / "manifest.json" if what == "manifest" else shard(copy, 1)
    shutil.copy(path, secret)
    path.unlink()
    make(path, secret)
    with opens(secret) as seen:
        for call in (ShardSource, verify_shards):
            with pytest.raises(ShardError, match=r"must be a (regular file|folder that render_shards wrote)"):
                call(copy)
    assert seen == []


@pytest.mark.parametrize("make", [folder_in_place, device, fifo], ids=lambda f: f.__name__)
@pytest.mark.parametrize("verify", ["sample", "hash", "off"])
def test_files_replaced_after_the_listing_are_not_followed(copy, tmp_path, make, verify, opens):
    source, secret = ShardSource(copy, verify=verify), tmp_path / "secret"
    path = shard(copy, 1)
    shutil.copy(path, secret)
    path.unlink()
    make(path, secret)
    with opens(secret) as seen, pytest.raises((ShardError, OSError)):
        source.read(np.array([2]))
    assert seen == []


@pytest.fixture
def opens():
    """Who opens a file meanwhile, libraries in C included (inotify)."""

    class Watch:
        def __init__(self, path):
            self.seen = []
            libc = ctypes.CDLL(None, use_errno=True)
            self.queue = libc.inotify_init1(os.O_NONBLOCK)
            assert libc.inotify_add_watch(self.queue, os.fsencode(path), 0x20) > 0  # IN_OPEN

        def __enter__(self):
            return self.seen

        def __exit__(self, *_):
            try:
                self.seen.append(os.read(self.queue, 4096))
            except BlockingIOError:
                pass
            finally:
                os.close(self.queue)

    return Watch


def refused(folder, index=1, reason=""):
    for verify in ("sample", "off"):
        with pytest.raises(ShardCorruptError, match=f"shard-0000{index}.*{reason}"):
            ShardSource(folder, verify=verify).read(np.array([2 * index]))


def test_growing_virtual_data_sets_open_nothing(copy, tmp_path, opens):
    """Their size depends on the sources: asking for the shape alone would open them."""
    secret = tmp_path / "secret"
    with h5py.File(secret, "w") as file:
        file.create_dataset("image", (2, 1, 8, 8), "<f4", maxshape=(None, 1, 8, 8))
    path = shard(copy, 1)
    with h5py.File(path, "r+", libver="latest") as file:
        del file["image"]
        layout = h5py.VirtualLayout((2, 1, 8, 8), "<f4", maxshape=(None, 1, 8, 8))
        source = h5py.VirtualSource(str(secret), "image", (2, 1, 8, 8), maxshape=(None, 1, 8, 8))
        layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
        file.create_virtual_dataset("image", layout)
    with opens(secret) as seen:
        refused(copy)
    assert seen == []
    with opens(secret) as seen, h5py.File(path, "r") as file:
        _ = file["image"].shape
    assert seen, "the trap works"


def test_soft_links_on_the_way_are_refused(copy):
    path = shard(copy, 1)
    with h5py.File(path, "r+") as file:
        group = file.create_group("data")
        file.move("image", "data/image")
        group["self"] = h5py.SoftLink("/data")
        file["image"] = h5py.SoftLink("/data/self/self/image")
        del file["mask"]
    refused(copy)


def test_links_of_two_names_to_one_data_set_are_refused(copy):
    with h5py.File(shard(copy, 1), "r+") as file:
        del file["seed"]
        file["seed"] = file["id"]
    refused(copy)


def readdressed(path, name, address):
    """The data set `name` begins elsewhere, and HDF5's own checksums are right."""
    with h5py.File(path, "r") as file:
        old = struct.pack("<Q", file[name].id.get_offset())
    content = path.read_bytes()
    (place,) = [k for start, end in metadata(content) if (k := content.find(old, start, end)) >= 0 and start]
    path.write_bytes(rechecked(content[:place] + struct.pack("<Q", address) + content[place + 8 :]))


def test_data_sets_may_not_share_bytes(copy):
    path = shard(copy, 1)
    with h5py.File(path, "r") as file:
        other = file["label"].id.get_offset()
    readdressed(path, "seed", other)
    with h5py.File(path, "r") as file:
        assert (file["seed"][:] == file["label"][:]).all(), "HDF5 does not mind"
    refused(copy, reason="shares bytes of the file with other data")


@pytest.mark.parametrize("address", [0, 1 << 20, (1 << 63) - 8, (1 << 64) - 2, (1 << 64) - 1])
def test_data_outside_the_file_are_refused(copy, address):
    readdressed(shard(copy, 1), "image", address)
    refused(copy)


@pytest.mark.parametrize("name", ["checksum", "id", "image"])
def test_data_between_the_places_of_numbers_are_refused(copy, name):
    path = shard(copy, 1)
    with h5py.File(path, "r") as file:
        address = file[name].id.get_offset()
    readdressed(path, name, address + 1)
    refused(copy, reason=f"'{name}' lies at bytes {address + 1} to")


def test_data_that_reach_beyond_the_end_are_refused(copy):
    path = shard(copy, 1)
    readdressed(path, "image", path.stat().st_size - 511)
    refused(copy)


def test_something_before_the_hdf5_file_is_refused(copy):
    path = shard(copy, 1)
    with h5py.File(path, "r") as old, h5py.File(copy / "new", "w", userblock_size=512) as new:
        for name in old:
            old.copy(name, new)
        new.attrs.create("render", np.bytes_(old.attrs["render"]))
    os.replace(copy / "new", path)
    with open(path, "r+b") as file:
        file.write(b"#!/bin/sh\n")
    refused(copy)


@pytest.mark.parametrize(("precision", "offset"), [(12, 0), (32, 16)])
def test_numbers_with_odd_bits_are_refused(copy, precision, offset):
    """Integers of 64 bits of which fewer count: patched in, since HDF5 does not write them readily."""
    path = shard(copy, 1)
    with h5py.File(path, "r") as file:
        address = struct.pack("<Q", file["label"].id.get_offset())
    content = path.read_bytes()
    (start, end) = next(part for part in metadata(content) if content.find(address, *part) >= 0 and part[0])
    place = content.index(struct.pack("<IHH", 8, 0, 64), start, end) + 4
    path.write_bytes(rechecked(content[:place] + struct.pack("<HH", offset, precision) + content[place + 4 :]))
    refused(copy, reason="'label'")


def test_bitfields_opaque_and_vlen_are_refused(copy):
    for kind in (
        h5py.h5t.STD_B64LE,
        h5py.h5t.create(h5py.h5t.OPAQUE, 8),
        h5py.h5t.vlen_create(h5py.h5t.STD_I64LE),
        h5py.h5t.array_create(h5py.h5t.STD_I32LE, (2,)),
        h5py.h5t.STD_REF_OBJ,
    ):
        with h5py.File(shard(copy, 1), "r+") as file:
            del file["label"]
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            h5py.h5d.create(file.id, b"label", kind, h5py.h5s.create_simple((2,)), properties)
        refused(copy)


def test_a_file_left_open_by_a_writer_is_refused(copy):
    path = shard(copy, 1)
    content = bytearray(path.read_bytes())
    assert content[8] >= 2, "superblock of version 2 or 3, whose flags are byte 11"
    content[11] |= 1
    path.write_bytes(content)
    refused(copy)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"\0" * 4096, b"PK\x03\x04" * 500, b"[" * 4096])
def test_files_that_are_no_hdf5_are_refused(copy, content):
    shard(copy, 1).write_bytes(content)
    refused(copy)


def test_a_shard_that_shrinks_between_two_readings_is_refused(copy, monkeypatch):
    """Uncompressed shards are checked once per process; what is mapped again must still be there."""
    from torchgenaug.shards.read import open_shards

    monkeypatch.setattr(open_shards, "MAX_MAPS", 1)
    source = ShardSource(copy)
    source.read(np.array([2]))
    source.read(np.array([0]))
    os.truncate(shard(copy, 1), 600)
    with pytest.raises(ShardCorruptError, match="shard-00001"):
        source.read(np.array([2]))


@pytest.mark.parametrize("compression", [None, "gzip", "lz4"])
def test_a_file_that_plain_h5py_has_open_is_no_hostile_one(tmp_path, compression):
    """HDF5 refuses to open a file twice in one process with different locking."""
    source = render(tmp_path / "shards", **SMALL, compression=compression)
    with h5py.File(shard(tmp_path / "shards", 1), "r") as file:
        assert (source.read(np.array([2, 3]))["image"].numpy() == file["image"][:]).all()
        assert verify_shards(tmp_path / "shards").ok


def test_refusals_write_nothing(copy):
    shard(copy, 1).write_bytes(b"x")
    before = contents(copy)
    refused(copy)
    assert not verify_shards(copy).ok
    assert contents(copy) == before


def test_the_format_of_names_leaves_no_paths():
    for name in ("../shard-00000." + "0" * 64 + ".h5", "shard-00000." + "0" * 64 + ".h5/..", "shard-00000.\0.h5"):
        assert shard_format.parse_shard_name(name) is None
