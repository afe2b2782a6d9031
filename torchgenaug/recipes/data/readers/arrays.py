"""Arrays, never unpickled: one per .npy, several by name in .npz, HDF5 and MATLAB files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.recipes.data.naming import is_mask_word
from torchgenaug.recipes.data.readers.containers import container_shapes, is_container, load_from_container
from torchgenaug.recipes.data.readers.decoded import MAX_CHANNELS, Array, Decoded, channels_first, fill_nan

AXIS_OF_CHANNELS = "an axis of {} was read as channels (as slices of a volume: --volumes)"
"""The note where nothing states what a short axis of an array is."""

_COLOURS = 3
IMAGE_MEMBERS = ("image", "images", "img", "x", "data", "volume", "arr_0",
                 "reconstruction_rss", "reconstruction_esc", "reconstruction")  # fmt: skip
_HEADERS: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MASK_MEMBERS = ("mask", "masks", "label", "labels", "seg", "segmentation", "gt", "y", "arr_1")


def read_array(path: Path) -> Decoded:
    """The array of an .npy file, or the image of a file of several arrays."""
    if holds_several(path):
        return one_array(load_array(path, choose_member(path, IMAGE_MEMBERS)))
    return one_array(load_array(path))


def one_array(array: Array, *, is_volume: bool = False) -> Decoded:
    """An array in memory as an image: channels in front, NaN replaced.

    Args:
        array: of two to four axes.
        is_volume: whether three axes are a volume, of which a short one may be channels otherwise.
    """
    if is_volume and array.ndim == 3:
        array = array[None]
    values, notes = fill_nan(channels_first(array))
    is_colour = len(values) == _COLOURS and array.dtype == np.uint8
    short = array.ndim == 3 and 1 < len(values) <= MAX_CHANNELS and not is_colour
    return Decoded(values, notes=(*notes, AXIS_OF_CHANNELS.format(len(values))) if short else notes)


def holds_several(path: Path) -> bool:
    """Whether a file holds named arrays: .npz, HDF5, MATLAB."""
    return path.suffix.lower() == ".npz" or is_container(path)


def plain_name(member: str) -> str:
    """The last part of an array's name, in lower case: "cjdata/tumorMask" is "tumormask"."""
    return member.rpartition("/")[2].lower()


def choose_member(path: Path, names: tuple[str, ...]) -> str:
    """The array of a file of several whose name is among `names`, or its only one.

    Raises:
        ValueError: none of them, listed.
    """
    found = member_shapes(path)
    by_name = {plain_name(name): name for name in found}
    for name in names:
        if name in by_name:
            return by_name[name]
    if names is MASK_MEMBERS:
        like_masks = [member for name, member in by_name.items() if is_mask_word(name)]
        if len(like_masks) == 1:
            return like_masks[0]
    images = [name for name, shape in found.items() if len([size for size in shape if size > 1]) > 1]
    if len(images) == 1 and names is IMAGE_MEMBERS:
        return images[0]
    raise ValueError(f"the file must hold an array named {' or '.join(names[:3])}, got {', '.join(found) or 'none'}")


def load_array(path: Path, member: str | None = None) -> Array:
    """The array of an .npy file, mapped from disk, or one of a file of several."""
    return _load(str(path), member, path.stat().st_mtime_ns)


def load_row(path: Path, member: str | None, row: int | None, axis: int = 0) -> Array:
    """What lies at `row` of the first or the last (-1) axis of an array; all of it at None."""
    if row is None:
        return np.array(load_array(path, member))
    if member is not None and is_container(path):
        return load_from_container(path, member, row, axis)
    return np.array(load_array(path, member)[row])


def member_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each array of a file of several (or of the one of an .npy file, named ""), without reading it."""
    if path.suffix.lower() == ".npy":
        return {"": load_array(path).shape}
    return _shapes(str(path), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _shapes(path: str, changed: int) -> dict[str, tuple[int, ...]]:
    if is_container(Path(path)):
        return container_shapes(Path(path))
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
    if is_container(Path(path)):
        return load_from_container(Path(path), member)
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[member])
