"""Checks that a file is the shard that it claims to be, and says where its data lie. Trusts nothing in the file.

HDF5 offers an attacker much: a data set may lie in any other file of the machine, be a link, be computed by a plug-in,
or claim any size. So each object must be exactly what `ShardWriter` makes, and that is established from its header,
before a single value is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.errors import ShardCorruptError
from torchgenaug.shards.cache import fetch_again
from torchgenaug.shards.folder import file_digest
from torchgenaug.shards.format import Manifest, parse_shard_name
from torchgenaug.shards.read.chunks import Extents, check_disjoint, check_filters, chunk_extents
from torchgenaug.shards.read.content import Content, ContentFile, ShardFault
from torchgenaug.shards.structure import RENDER_ATTRIBUTE, filters, is_chunked


def corrupt(path: Path, ids: range, reason: str) -> ShardCorruptError:
    """The error for a damaged shard, with the way to have it whole again: rendered, or fetched into its cache."""
    remedy = fetch_again(path) or (
        f"Make it again with: torchgenaug render SYNTHESIZER --out {path.parent} --repair (and the options "
        "of the first render), or render_shards(..., resume='verify')."
    )
    return ShardCorruptError(
        f"{path} must hold samples {ids.start} to {ids.stop - 1} as they were rendered, but {reason}. Nothing of it "
        f"was used. {remedy}"
    )


def open_checked(
    content: Content, manifest: Manifest, index: int, check_numbers: Callable[[dict[str, int]], None] = lambda _: None
) -> tuple[Any, dict[str, int], dict[str, Extents]]:
    """Lets HDF5 open a shard, and checks its structure.

    Args:
        content: of the whole file; HDF5 sees these very bytes, not what a path leads to.
        manifest: of its folder.
        index: which shard it must be.
        check_numbers: is given where the contiguous data sets begin before HDF5 counts chunks: that takes as long as
            the file claims to have, where ids and seeds must be there.

    Returns:
        The open h5py file, the offset of each contiguous data set in it, and the chunks of each compressed one.

    Raises:
        ShardFault: the file is anything but this shard of this render.
    """
    import h5py

    if manifest.compression is not None:
        filters(manifest.compression)  # registers Blosc with this process's HDF5
    file = None
    try:
        file = h5py.File(ContentFile(content), "r", driver="fileobj")
        return file, *_checked_places(file, manifest, len(manifest.shard_range(index)), len(content), check_numbers)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError) as error:
        if file is not None:
            file.close()
        raise ShardFault(str(error)) from error


def check_digest(path: Path, descriptor: int) -> None:
    """ShardFault unless the sha256 of an open file is the one in its name."""
    _, expected = parse_shard_name(path.name) or (0, "")
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        actual = file_digest(file)
    if actual != expected:
        raise ShardFault(f"the sha256 of its content is {actual}, not the one in its name")


def _checked_places(
    file: Any, manifest: Manifest, count: int, size: int, check_numbers: Callable[[dict[str, int]], None]
) -> tuple[dict[str, int], dict[str, Extents]]:
    """Where contiguous data sets begin and chunks lie; ShardFault unless every object is what the writer makes."""
    import h5py

    if file.id.get_create_plist().get_userblock():
        raise ShardFault("something else stands before the HDF5 file in it")
    root = h5py.h5g.open(file.id, b"/")
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "id": ((count,), "int64"),
        "seed": ((count,), "uint64"),
        "checksum": ((count, len(manifest.fields)), "uint64"),
    }
    fields = {name: ((count, *field.spec.shape), field.dtype) for name, field in manifest.fields.items()}
    expected |= dict(sorted(fields.items(), key=lambda entry: is_chunked_name(manifest, entry[0])))
    if root.get_num_objs() != len(expected):
        raise ShardFault(f"it holds {root.get_num_objs()} objects at its root instead of {len(expected)}")
    _check_render(root, manifest)
    offsets: dict[str, int] = {}
    chunks: dict[str, Extents] = {}
    taken = []
    for name, (shape, dtype) in expected.items():
        key = name.encode()
        if not root.links.exists(key) or root.links.get_info(key).type != h5py.h5l.TYPE_HARD:
            raise ShardFault(f"it lacks {name!r}, or holds a link of that name")
        if h5py.h5o.get_info(root, key).type != h5py.h5o.TYPE_DATASET:
            raise ShardFault(f"{name!r} is not a data set")
        dataset = h5py.h5d.open(root, key)
        compression = manifest.compression if is_chunked_name(manifest, name) else None
        if compression is not None and not chunks:
            check_numbers(offsets)
        try:
            offset = _checked_dataset(dataset, shape, np.dtype(dtype), compression)
            if offset is None:
                chunks[name] = chunk_extents(dataset, count, size)
                taken.append(chunks[name][:, :2])
                continue
        except ValueError as error:
            raise ShardFault(f"{name!r} {error}") from error
        length = math.prod(shape) * np.dtype(dtype).itemsize
        if offset <= 0 or offset % np.dtype(dtype).itemsize or offset + length > size:
            raise ShardFault(f"{name!r} lies at bytes {offset} to {offset + length} of a file of {size} bytes")
        offsets[name] = offset
        taken.append(np.array([[offset, length]], np.int64))
    check_disjoint(*np.concatenate(taken).T)
    return offsets, chunks


def is_chunked_name(manifest: Manifest, name: str) -> bool:
    """`is_chunked`, for the names of our own data sets too."""
    return name in manifest.fields and is_chunked(manifest, name)


def _check_render(root: Any, manifest: Manifest) -> None:
    import h5py

    attribute_name = RENDER_ATTRIBUTE.encode()
    if not h5py.h5a.exists(root, attribute_name):
        raise ShardFault(f"it lacks the attribute {RENDER_ATTRIBUTE!r}")
    attribute = h5py.h5a.open(root, attribute_name)
    kind = attribute.get_type()
    fixed = kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str() and kind.get_size() == 64
    if not fixed or attribute.shape != ():
        raise ShardFault(f"its attribute {RENDER_ATTRIBUTE!r} is not a text of 64 bytes")
    value = np.zeros((), "S64")
    attribute.read(value)
    if value.tobytes().decode("ascii", "replace") != manifest.render_id:
        raise ShardFault("it belongs to another render than the manifest of its folder")


def _checked_dataset(dataset: Any, shape: tuple[int, ...], dtype: np.dtype[Any], compression: str | None) -> int | None:
    """The offset of a contiguous data set, None for a chunked one. The layout is checked first.

    Raises:
        ValueError: it is not what the writer makes.
    """
    import h5py

    properties = dataset.get_create_plist()
    layout = properties.get_layout()
    if layout != (h5py.h5d.CONTIGUOUS if compression is None else h5py.h5d.CHUNKED):
        raise ValueError("has another storage layout than the manifest says")
    if properties.get_external_count():
        raise ValueError("keeps its data in another file")
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    check_filters(properties, compression, dtype.itemsize, row_bytes)
    if dataset.shape != shape:
        raise ValueError(f"has shape {dataset.shape} instead of {shape}")
    kind = dataset.get_type()
    if kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) or not kind.equal(
        h5py.h5t.py_create(dtype.newbyteorder("<"))
    ):
        raise ValueError(f"has another dtype than {dtype}")
    if compression is None:
        offset = dataset.get_offset()
        if offset is None:
            raise ValueError("holds no data")
        return int(offset)
    if properties.get_chunk() != (1, *shape[1:]) or dataset.get_num_chunks() != shape[0]:
        raise ValueError("does not hold one chunk per sample")
    return None
