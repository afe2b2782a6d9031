"""Hostile compressed shards: filters, bombs, and chunks that lie about where and how large they are."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import torch
from shards_helpers import render, shard, small_sequence

from tests import clean_interpreter
from torchgenaug import ShardSource
from torchgenaug.errors import ShardCorruptError
from torchgenaug.shards.read.chunks import GzipRows

SHAPE, CHUNK, ROW_BYTES = (4, 1, 8, 8), (1, 1, 8, 8), 256


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished render per compression."""
    path = tmp_path_factory.mktemp("finished")
    for name in ("gzip", "lz4"):
        render(path / name, compression=name)
    return path


def copied(finished, tmp_path, compression):
    shutil.copytree(finished / compression, tmp_path / "shards")
    return tmp_path / "shards"


def again(file, **options):
    """The field `image`, stored in another way."""
    values = file["image"][:]
    del file["image"]
    return file.create_dataset("image", data=values, **({"chunks": CHUNK, "dtype": "<f4"} | options))


def with_filter(number, values=(), flags=h5py.h5z.FLAG_OPTIONAL):
    """A field that asks for one filter, known or not."""

    def attack(file):
        del file["image"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(CHUNK)
        properties.set_filter(number, flags, values)
        space, kind = h5py.h5s.create_simple(SHAPE), h5py.h5t.py_create(np.dtype("<f4"))
        h5py.h5d.create(file.id, b"image", kind, space, properties)

    return attack


def chunk_content(make):
    """The image's chunks hold the bytes ``make(intact)``, as they stand."""

    def attack(file):
        image = file["image"].id
        for row in range(4):
            mask, intact = image.read_direct_chunk((row, 0, 0, 0))
            made = make(intact)
            content, mask = made if isinstance(made, tuple) else (made, mask)
            image.write_direct_chunk((row, 0, 0, 0), content, mask)

    return attack


def header(intact, place, value):
    """A Blosc chunk with another number in its header."""
    content = bytearray(intact)
    struct.pack_into("<I", content, place, value)
    return bytes(content)


def deflate_bomb(gibibytes=1):
    """A stream of 1 MiB blocks of zeros; only a reader who inflates it all sees that its checksum is wrong."""
    stream = zlib.compressobj(wbits=-15)
    block = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\x9c" + block * (1024 * gibibytes) + b"\x03\x00" + bytes(4)


def forget_a_chunk(file):
    values = file["image"][:3]
    del file["image"]
    file.create_dataset("image", SHAPE, "<f4", chunks=CHUNK, compression="gzip", compression_opts=4, shuffle=True)[
        :3
    ] = values


BLOSC = dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=1))
GZIP_ATTACKS = {
    "unknown filter": with_filter(60_001),
    "plug-in filter": with_filter(32_008, (0, 0)),
    "no filter": lambda file: again(file),
    "no shuffle": lambda file: again(file, compression="gzip"),
    "lzf": lambda file: again(file, compression="lzf", shuffle=True),
    "blosc": lambda file: again(file, **BLOSC),
    "checksum filter too": lambda file: again(file, compression="gzip", shuffle=True, fletcher32=True),
    "scale and offset": lambda file: again(file, scaleoffset=2),
    "larger chunks": lambda file: again(file, chunks=(2, 1, 8, 8), compression="gzip", shuffle=True),
    "smaller chunks": lambda file: again(file, chunks=(1, 1, 8, 4), compression="gzip", shuffle=True),
    "contiguous": lambda file: again(file, chunks=None),
    "a chunk too few": forget_a_chunk,
    "bomb": chunk_content(lambda intact: deflate_bomb()),
    "longer": chunk_content(lambda intact: zlib.compress(bytes(ROW_BYTES + 1))),
    "shorter": chunk_content(lambda intact: zlib.compress(bytes(ROW_BYTES - 1))),
    "more behind": chunk_content(lambda intact: intact + b"x"),
    "cut off": chunk_content(lambda intact: intact[:-1]),
    "wrong adler": chunk_content(lambda intact: intact[:-1] + bytes([intact[-1] ^ 1])),
    "dictionary": chunk_content(lambda intact: b"\x78\xbb\x00\x00\x00\x01" + intact[2:]),
    "noise": chunk_content(lambda intact: np.random.default_rng(0).bytes(len(intact))),
    "shuffle left out": chunk_content(lambda intact: (zlib.compress(zlib.decompress(intact), 0), 1)),
    "all left out, long": chunk_content(lambda intact: (bytes(ROW_BYTES + 8), 2)),
    "all left out, short": chunk_content(lambda intact: (bytes(8), 3)),
}
LZ4_ATTACKS = {
    "gzip": lambda file: again(file, compression="gzip", shuffle=True),
    "another codec": lambda file: again(file, **dict(hdf5plugin.Blosc(cname="zstd", clevel=5, shuffle=1))),
    "blosc 2": lambda file: again(file, **dict(hdf5plugin.Blosc2(cname="lz4", clevel=5))),
    "no options": with_filter(32_001, (2, 2, 4, ROW_BYTES)),
    "other item size": with_filter(32_001, (2, 2, 0, ROW_BYTES, 5, 1, 1)),
    "other guess": with_filter(32_001, (2, 2, 4, 1 << 31, 5, 1, 1)),
    "bomb": chunk_content(lambda intact: header(intact, 4, 0x7FFFFFEF)),
    "less": chunk_content(lambda intact: header(intact, 4, ROW_BYTES - 4)),
    "reads beyond": chunk_content(lambda intact: header(intact, 12, 1 << 30)),
    "no blocks": chunk_content(lambda intact: header(intact, 8, 0)),
    "huge blocks": chunk_content(lambda intact: header(intact, 8, 1 << 31)),
    "no header": chunk_content(lambda intact: intact[:15]),
    "left out, long": chunk_content(lambda intact: (bytes(ROW_BYTES + 8), 1)),
    "left out, short": chunk_content(lambda intact: (bytes(8), 1)),
    "another filter left out": chunk_content(lambda intact: (bytes(ROW_BYTES), 2)),
}


@pytest.mark.parametrize(
    ("compression", "name"), [("gzip", name) for name in GZIP_ATTACKS] + [("lz4", name) for name in LZ4_ATTACKS]
)
def test_hostile_chunks_are_refused(finished, tmp_path, compression, name):
    folder = copied(finished, tmp_path, compression)
    with h5py.File(shard(folder, 1), "r+") as file:
        (GZIP_ATTACKS if compression == "gzip" else LZ4_ATTACKS)[name](file)
    for verify in ("sample", "off"):
        with pytest.raises(ShardCorruptError, match=r"shard-00001.*Make it again with"):
            ShardSource(folder, verify=verify).read(np.array([5, 6]))
    expected = small_sequence().batch([0, 1])
    for field, values in ShardSource(folder).read(np.array([0, 1])).items():
        assert torch.equal(values, expected[field]), "the other shards are as good as ever"


def limited(code, folder, gigabytes):
    """Runs Python code under a limit of its memory; returns the finished process."""
    prelude = f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({int(gigabytes * 2**30)},) * 2)\n"
    return clean_interpreter.run(["-c", prelude + code, folder])


@pytest.mark.parametrize("compression", ["gzip", "lz4"])
def test_bombs_take_no_memory(finished, tmp_path, compression):
    """Peak memory grows by less than 32 MiB where the chunk claims 1 or 2 GiB."""
    folder = copied(finished, tmp_path, compression)
    with h5py.File(shard(folder, 1), "r+") as file:
        (GZIP_ATTACKS if compression == "gzip" else LZ4_ATTACKS)["bomb"](file)
    code = """
import resource, sys
import numpy as np
from torchgenaug import ShardSource
from torchgenaug.errors import ShardCorruptError
source = ShardSource(sys.argv[1], verify="off")
source.read(np.array([0]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    source.read(np.array([5]))
except ShardCorruptError:
    print("refused", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = limited(code, folder, 64)
    word, kibibytes = done.stdout.split()
    assert word == "refused", done.stderr
    assert int(kibibytes) < 32 << 10


def test_empty_masks_are_no_bombs(tmp_path):
    """However well a sample compresses, it is read if it is of the size that the manifest says."""
    from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticSequence

    spec = FieldSpec((1, 1024, 1024), torch.int64, kind="label_map")
    empty = FunctionSynthesizer(
        lambda seeds, conditions: {"mask": torch.zeros(len(seeds), *spec.shape, dtype=torch.int64)},
        {"mask": spec},
        fingerprint="a" * 64,
    )
    for compression in ("gzip", "lz4"):
        source = render(tmp_path / compression, 2, SyntheticSequence(empty), compression=compression)
        assert shard(tmp_path / compression, 0).stat().st_size < 2 * 8 * 1024 * 1024 / 100
        assert not source.read(np.array([0, 1]))["mask"].any()


def test_foreign_filters_load_no_plugin(finished, tmp_path):
    """A file that asks for a plug-in makes plain h5py load it, and us refuse before."""
    folder = copied(finished, tmp_path, "gzip")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (library,) = Path(hdf5plugin.__file__).parent.glob("plugins/libh5zstd.*")
    shutil.copy(library, plugins)
    path = shard(folder, 1)
    with h5py.File(path, "r+") as file:
        again(file, **dict(hdf5plugin.Zstd()))
    code = """
import sys
import numpy as np
def loaded():
    return sys.argv[2] in open("/proc/self/maps").read()
if sys.argv[3] == "plain":
    import h5py
    h5py.File(sys.argv[1], "r")["image"][:]
    print(loaded())
else:
    from pathlib import Path
    from torchgenaug import ShardSource
    try:
        ShardSource(Path(sys.argv[1]).parent).read(np.array([5]))
    except Exception as error:
        print(type(error).__name__, "other filters" in str(error), loaded())
"""

    def run(mode):
        environment = {**os.environ, "HDF5_PLUGIN_PATH": str(plugins)}
        return clean_interpreter.run(["-c", code, path, plugins / library.name, mode], env=environment)

    assert run("plain").stdout.split() == ["True"], "the trap works"
    assert run("ours").stdout.split() == ["ShardCorruptError", "True", "False"]


def test_two_chunks_may_not_share_bytes(finished, tmp_path):
    """The fixed array that lists the chunks names one address twice."""
    folder = copied(finished, tmp_path, "gzip")
    path = shard(folder, 1)
    with h5py.File(path, "r") as file:
        chunks = []
        file["image"].id.chunk_iter(chunks.append)
    content = path.read_bytes()
    one, other = (struct.pack("<Q", chunk.byte_offset) for chunk in chunks[:2])
    assert content.count(one) == 1
    path.write_bytes(content.replace(one, other))
    with pytest.raises(ShardCorruptError, match="shard-00001"):
        ShardSource(folder).read(np.array([5]))


def test_rows_that_deflate_left_out_are_read():
    """HDF5 may store a chunk without its optional last filter, and says so in the chunk's mask."""
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    shuffled = np.ascontiguousarray(values.reshape(-1).view(np.uint8).reshape(-1, 4).T)
    mapped = np.frombuffer(bytes(10) + shuffled.tobytes(), np.uint8)
    out = np.empty((2, 3), "<f4")
    GzipRows(mapped, np.array([[10, 24, 2]], np.int64)).read(0, out)
    assert (out == values).all()
