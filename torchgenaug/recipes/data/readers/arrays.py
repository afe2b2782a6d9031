"""NumPy files, never unpickled: one array per .npy, several by name in an .npz."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.recipes.data.readers.decoded import Array, Decoded, channels_first, fill_nan

IMAGE_MEMBERS = ("image", "images", "img", "x", "data", "volume", "arr_0")
_HEADERS: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MASK_MEMBERS = ("mask", "masks", "label", "labels", "seg", "segmentation", "gt", "y", "arr_1")


def read_numpy(path: Path) -> Decoded:
    """The array of an .npy file, or the image of an .npz file."""
    if path.suffix.lower() == ".npz":
        return one_array(load_array(path, choose_member(path, IMAGE_MEMBERS)))
    return one_array(load_array(path))


def one_array(array: Array) -> Decoded:
    """An array in memory as an image: channels in front, NaN replaced."""
    values, notes = fill_nan(channels_first(array))
    return Decoded(values, notes=notes)


def choose_member(path: Path, names: tuple[str, ...]) -> str:
    """The array of an .npz file whose name is among `names`, or its only one.

    Raises:
        ValueError: none of them, listed.
    """
    found = member_shapes(path)
    by_lower = {name.lower(): name for name in found}
    for name in names:
        if name in by_lower:
            return by_lower[name]
    if len(found) == 1 and names is IMAGE_MEMBERS:
        return next(iter(found))
    raise ValueError(f"an .npz file must hold an array named {' or '.join(names[:3])}, got {', '.join(found)}")


def load_array(path: Path, member: str | None = None) -> Array:
    """The array of an .npy file, mapped from disk, or one of an .npz file."""
    return _load(str(path), member, path.stat().st_mtime_ns)


def member_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each array of an .npz file (or of the one of an .npy file, named ""), without reading it."""
    if path.suffix.lower() == ".npy":
        return {"": load_array(path).shape}
    shapes: dict[str, tuple[int, ...]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            with archive.zip.open(f"{name}.npy") as file:
                shapes[name] = _HEADERS[np.lib.format.read_magic(file)](file)[0]
    return shapes


@functools.lru_cache(maxsize=4)
def _load(path: str, member: str | None, changed: int) -> Array:
    """`changed`, the time of the last change, keeps a rewritten file from being taken for the one before."""
    if member is None or Path(path).suffix.lower() == ".npy":
        with Path(path).open("rb") as file:
            _, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        array: Array = np.load(path, mmap_mode=None if dtype.hasobject else "r", allow_pickle=False)
        return array
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[member])
