"""Hostile files: each must be refused before anything outside it is opened."""

from __future__ import annotations

import ctypes
import os
import sys

import h5py
import numpy as np
import pytest
from shards_helpers import shard

from torchgenaug import ShardSource
from torchgenaug.errors import ShardCorruptError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watches files with inotify")


def remake(file, name, **options):
    values = file[name][:]
    del file[name]
    file.create_dataset(name, data=options.pop("data", values), **options)


def external_storage(file, secret):
    del file["image"]
    file.create_dataset("image", (4, 1, 8, 8), "<f4", external=[(str(secret), 0, 4 * 256)])


def external_link(file, secret):
    del file["image"]
    file["image"] = h5py.ExternalLink(str(secret), "/image")


def soft_link(file, secret):
    file.move("image", "label2")
    file["image"] = h5py.SoftLink("/label2")
    del file["mask"]


def dangling_soft_link(file, secret):
    del file["image"]
    file["image"] = h5py.SoftLink("/nowhere")


def virtual(file, secret):
    del file["image"]
    layout = h5py.VirtualLayout((4, 1, 8, 8), "<f4")
    layout[:] = h5py.VirtualSource(str(secret), "image", (4, 1, 8, 8))
    file.create_virtual_dataset("image", layout)


def group(file, secret):
    del file["image"]
    file.create_group("image")


def cycle(file, secret):
    del file["image"]
    file["image"] = file["/"]


def named_type(file, secret):
    del file["image"]
    file["image"] = np.dtype("<f4")


def surplus(file, secret):
    file["more"] = 1


def missing(file, secret):
    del file["image"]


def chunked(file, secret):
    remake(file, "image", chunks=(1, 1, 8, 8))


def compact(file, secret):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    del file["id"]
    space, kind = h5py.h5s.create_simple((4,)), h5py.h5t.py_create(np.dtype("<i8"))
    h5py.h5d.create(file.id, b"id", kind, space, properties)


def filtered(file, secret):
    remake(file, "image", chunks=(1, 1, 8, 8), compression="gzip")


def unwritten(file, secret):
    del file["image"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    space, kind = h5py.h5s.create_simple((4, 1, 8, 8)), h5py.h5t.py_create(np.dtype("<f4"))
    h5py.h5d.create(file.id, b"image", kind, space, properties)


def enormous(file, secret):
    del file["image"]
    file.create_dataset("image", (1 << 40, 1, 8, 8), "<f4")


def other_shape(file, secret):
    remake(file, "image", data=np.zeros((4, 1, 8, 9), "<f4"))


def more_axes(file, secret):
    remake(file, "label", data=np.zeros((4, 1), "<i8"))


def scalar_space(file, secret):
    remake(file, "label", data=np.int64(1))


def other_dtype(file, secret):
    remake(file, "image", dtype="<f8")


def big_endian(file, secret):
    remake(file, "image", dtype=">f4")


def signed(file, secret):
    remake(file, "seed", dtype="<i8")


def compound(file, secret):
    remake(file, "label", data=np.zeros(4, [("a", "<i4"), ("b", "<i4")]))


def strings(file, secret):
    remake(file, "label", data=np.array([b"x" * 8] * 4, "S8"))


def variable_strings(file, secret):
    remake(file, "label", data=["a"] * 4, dtype=h5py.string_dtype())


def references(file, secret):
    remake(file, "label", data=np.array([file.ref] * 4, h5py.ref_dtype))


def enumeration(file, secret):
    remake(file, "label", dtype=h5py.enum_dtype({"a": 0}, "<i8"))


def no_render(file, secret):
    del file.attrs["render"]


def other_render(file, secret):
    file.attrs.create("render", np.bytes_("0" * 64))


def variable_render(file, secret):
    file.attrs["render"] = "0" * 64


def number_render(file, secret):
    file.attrs["render"] = 3


def other_ids(file, secret):
    file["id"][:] += 1


def other_seeds(file, secret):
    file["seed"][1] ^= np.uint64(1)


ATTACKS = [
    external_storage,
    external_link,
    soft_link,
    dangling_soft_link,
    virtual,
    group,
    cycle,
    named_type,
    surplus,
    missing,
    chunked,
    compact,
    filtered,
    unwritten,
    enormous,
    other_shape,
    more_axes,
    scalar_space,
    other_dtype,
    big_endian,
    signed,
    compound,
    strings,
    variable_strings,
    references,
    enumeration,
    no_render,
    other_render,
    variable_render,
    number_render,
    other_ids,
    other_seeds,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("verify", ["sample", "off"])
def test_hostile_files_are_refused(folder, tmp_path, attack, verify):
    secret = tmp_path / "secret"
    with h5py.File(secret, "w") as file:
        file["image"] = np.full((4, 1, 8, 8), 0.5, "<f4")
    path = shard(folder, 1)
    with h5py.File(path, "r+") as file:
        attack(file, secret)
    opened = []
    with (
        pytest.raises(ShardCorruptError, match=r"shard-00001.* must hold samples 4 to 7 as they were rendered"),
        Opens(secret, opened),
    ):
        ShardSource(folder, verify=verify).read(np.array([5]))
    assert opened == []


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_hashing_refuses_them_before_hdf5_looks(folder, tmp_path, attack, monkeypatch):
    with h5py.File(shard(folder, 1), "r+") as file:
        attack(file, tmp_path / "secret")
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(ShardCorruptError, match="sha256 of its content"):
        ShardSource(folder, verify="hash").read(np.array([5]))


class Opens:
    """Notes each time a file is opened meanwhile, by anyone (inotify)."""

    def __init__(self, path, seen):
        self.path, self.seen = path, seen

    def __enter__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        self.queue = libc.inotify_init1(os.O_NONBLOCK)
        in_open = 0x20
        assert libc.inotify_add_watch(self.queue, str(self.path).encode(), in_open) > 0

    def __exit__(self, *_):
        try:
            self.seen.append(os.read(self.queue, 4096))
        except BlockingIOError:
            pass
        finally:
            os.close(self.queue)


def test_the_watch_notices(tmp_path):
    (tmp_path / "file").write_text("x")
    seen = []
    with Opens(tmp_path / "file", seen):
        (tmp_path / "file").read_text()
    assert seen
