"""Array files that hold many samples each: MedMNIST and MedSegBench .npz, X_train.npy with y_train.npy, HDF5."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.array_volumes import as_volumes
from torchgenaug.recipes.data.files import unreadable
from torchgenaug.recipes.data.listing import Listing, some
from torchgenaug.recipes.data.naming import folder_tokens, split_word
from torchgenaug.recipes.data.parts import ArrayRow
from torchgenaug.recipes.data.readers.arrays import holds_several, load_array, member_shapes, plain_name
from torchgenaug.recipes.data.readers.containers import MATLAB, is_container
from torchgenaug.recipes.data.readers.decoded import MAX_CHANNELS, Array
from torchgenaug.recipes.data.records import FileRecord, Layout
from torchgenaug.recipes.data.selection import NO_MASKS, NO_TABLE, Glob, Selection

_IMAGES = {"images", "imgs", "x", "image", "img", "data", "volumes", "scans"}
_ONE_IMAGE = {"image", "img", "data"}
_LABELS = {"labels", "label", "y", "target", "targets", "masks", "mask", "segmentations", "seg", "gt", "classes"}
_TRAIN = ("train", "training", "trn", "tr", "")


@dataclass(frozen=True)
class _Array:
    """An array of a file, what its name states, and its shape, samples first; `axis`: where they are in the file."""

    path: Path
    member: str | None
    shape: tuple[int, ...]
    split: str
    role: str
    axis: int = 0

    def load(self) -> Array:
        return np.moveaxis(load_array(self.path, self.member), self.axis, 0)

    @property
    def name(self) -> str:
        return self.member or self.path.name


def read_chosen_stacks(listing: Listing, selection: Selection) -> Layout | None:
    """What `read_stacks` finds among the files that the user's options name.

    Raises:
        ConfigurationError: as `read_stacks`, or an option that means nothing for such arrays.
    """
    patterns = [pattern for pattern in (selection.images, selection.masks) if pattern not in (None, NO_MASKS)]
    if not patterns:
        layout, chosen = read_stacks(listing), None
    else:
        keys = [listing.key(path) for path in listing.files]
        named = {key for pattern in patterns if pattern for key in Glob(pattern).keep(keys)}
        chosen = replace(listing, files=[path for path, key in zip(listing.files, keys, strict=True) if key in named])
        layout = read_stacks(chosen)
    if layout is None:
        return None
    if selection.folders is not None or selection.table not in (None, NO_TABLE):
        option = f"folders={selection.folders!r}" if selection.folders else f"table={selection.table!r}"
        raise ConfigurationError(
            f"`folders` and `table` must be left out for arrays of many samples, got {option} for "
            f"{layout.records[0].image[0]}. Their classes are an array of their own. Leave the option out."
        )
    records, remarks = layout.records, layout.remarks
    if chosen is not None and len(chosen.files) < len(listing.files):
        remarks = (*remarks, f"Not used: files that were not chosen: {len(listing.files) - len(chosen.files)}.")
    if selection.masks == NO_MASKS and any(record.mask for record in records):
        records = tuple(replace(record, mask=()) for record in records)
        remarks = (*remarks, "Masks were left out.")
    if selection.volumes:
        records = tuple(as_volumes(records))
    return replace(layout, records=records, remarks=remarks)


def read_stacks(listing: Listing) -> Layout | None:
    """The samples of array files that hold many; None where the folder has no such files.

    The part for training is used; other parts are counted.

    Raises:
        ConfigurationError: several data sets, or labels of another number than images.
    """
    arrays, unknown = _arrays(listing)
    images = {array.split: array for array in arrays if array.role == "image"}
    num_sets = max(Counter(array.split for array in arrays if array.role == "image").values(), default=0)
    if not images or not all(_holds_many(array, arrays) for array in arrays if array.role == "image"):
        return None
    if num_sets > 1:
        files = sorted({listing.key(array.path) for array in arrays})
        raise ConfigurationError(
            f"DATA must be one data set, got {num_sets} of them in {listing.folder}: {some(files)}. Give one of the "
            f"files: {listing.folder / files[0]}."
        )
    split = next((each for each in _TRAIN if each in images), next(iter(images)))
    chosen = images[split]
    others = [array for array in images.values() if array is not chosen]
    used = {array.path for array in arrays}
    for path in listing.files:
        if path not in used:
            listing.put_aside(path, "files that are no such arrays")
    listing.others["arrays of other names"] = unknown
    records, names, remarks = _records(chosen, [array for array in arrays if array.role == "label"], listing)
    summary = [f"Read as {len(records):,} images: the array {chosen.name} of {chosen.path.name}."]
    if others:
        left = ", ".join(f"{array.name} ({array.shape[0]:,})" for array in others)
        summary.append(f"Parts of the split that were not used: {left}.")
    return Layout(tuple(records), names, (*summary, *remarks, *listing.unused()))


def _arrays(listing: Listing) -> tuple[list[_Array], list[str]]:
    """Arrays that are images or labels by their names, and the names of the others."""
    found, unknown = [], []
    for path in listing.files:
        if path.suffix.lower() != ".npy" and not holds_several(path):
            continue
        try:
            shapes = member_shapes(path)
        except Exception as error:
            raise unreadable(path, error) from error
        arrays = []
        for member, shape in shapes.items():
            name = plain_name(member) or path.name[: -len(path.suffix)]
            tokens = set(folder_tokens(name))
            role = "image" if tokens & _IMAGES and not tokens & _LABELS else "label" if tokens & _LABELS else ""
            if role:
                # Of HDF5, a part of the split is often a file of its own.
                split = split_word(name) or (split_word(path.stem) if is_container(path) else "")
                arrays.append(_Array(path, member or None, shape, split, role))
            elif member:
                unknown.append(f"{listing.key(path)} {member}")
        found += _samples_first(arrays) if path.suffix.lower() == MATLAB else arrays
    return found, unknown


def _samples_first(arrays: Sequence[_Array]) -> list[_Array]:
    """Arrays of a MATLAB file, whose samples lie along the last axis, or, as Python writes them, along the first."""
    counts = {max(array.shape, default=0) for array in arrays if array.role == "label" and len(array.shape) <= 2}
    images = [array for array in arrays if array.role == "image" and len(array.shape) > 2]
    if len(images) != 1 or not {images[0].shape[0], images[0].shape[-1]} & counts:
        return []  # one sample
    axis = 0 if images[0].shape[0] in counts else -1
    moved = []
    for array in arrays:
        if len(array.shape) == 2 and 1 in array.shape:
            moved.append(replace(array, shape=(max(array.shape),), axis=-1 if array.shape[-1] > 1 else 0))
        elif len(array.shape) > 1 and axis == -1:
            moved.append(replace(array, shape=(array.shape[-1], *array.shape[:-1]), axis=-1))
        else:
            moved.append(array)
    return moved


def _holds_many(image: _Array, arrays: Sequence[_Array]) -> bool:
    if len(image.shape) < 3:
        return False
    label = _label_of(image, [array for array in arrays if array.role == "label"])
    if image.split:
        return True
    if set(folder_tokens(image.name)) & _ONE_IMAGE:
        of_all = label is not None and label.shape[:1] == image.shape[:1] and len(label.shape) <= 2
        return of_all and label is not None and label.shape != image.shape[:2]  # else it is the mask of one image
    several_files = len({array.path for array in arrays if array.role == "image"}) > 1
    return not several_files


def _label_of(image: _Array, labels: Sequence[_Array]) -> _Array | None:
    same = [label for label in labels if label.split == image.split]
    return next((label for label in same if label.path == image.path), next(iter(same), None))


def _records(
    image: _Array, labels: Sequence[_Array], listing: Listing
) -> tuple[list[FileRecord], tuple[str, ...], list[str]]:
    count = image.shape[0]
    records = [
        FileRecord(
            (ArrayRow(image.path, image.member, row, image.axis),), f"{listing.key(image.path)} {image.name} row {row}"
        )
        for row in range(count)
    ]
    label = _label_of(image, labels)
    if label is None:
        return records, (), []
    if label.shape[:1] != (count,):
        raise ConfigurationError(
            f"{label.name} must have one entry for each of the {count} images of {image.name}, got shape {label.shape} "
            f"at {label.path}. Save them alike."
        )
    if _is_mask(image.shape, label.shape):
        masked = [
            FileRecord(each.image, each.key, (ArrayRow(label.path, label.member, row, label.axis),))
            for row, each in enumerate(records)
        ]
        return masked, (), [f"Masks are {label.name}."]
    classes, names, remark = _classes(label.load())
    if classes is None:
        return records, (), [f"{label.name} {label.shape} was not used: {remark}."]
    labelled = [FileRecord(each.image, each.key, label=int(classes[row])) for row, each in enumerate(records)]
    return labelled, names, [f"Classes are {label.name}{remark}."]


def _is_mask(image: Sequence[int], label: Sequence[int]) -> bool:
    """Whether labels (samples, *spatial) or (samples, *spatial, 1) cover images."""
    spatial = list(image[1:])
    if len(spatial) > 2 and spatial[-1] <= MAX_CHANNELS:
        spatial = spatial[:-1]
    elif len(spatial) > 2 and spatial[0] <= MAX_CHANNELS:
        spatial = spatial[1:]
    own = list(label[1:])
    while len(own) > len(spatial):
        if own[-1] != 1 and own[0] != 1:
            break
        own = own[:-1] if own[-1] == 1 else own[1:]
    return own == spatial


def _classes(values: Array) -> tuple[Array | None, tuple[str, ...], str]:
    """(samples,) class numbers, their names, and how they were read or why not."""
    values = np.asarray(values)
    while values.ndim > 1 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 2 and values.dtype.kind in "buif":
        if bool(((values == 0) | (values == 1)).all()) and bool((values.sum(1) == 1).all()):
            return values.argmax(1), (), " (one-hot)"
        return None, (), "several labels of one image"
    if values.ndim != 1:
        return None, (), "neither a class nor a mask of each image"
    if values.dtype.kind in "US":
        names, numbers = np.unique(values, return_inverse=True)
        return numbers, tuple(str(name) for name in names), ""
    if values.dtype.kind not in "buif" or not bool((values == np.round(values.astype(np.float64))).all()):
        return None, (), "no whole numbers"
    names, numbers = np.unique(values.astype(np.int64), return_inverse=True)
    if names.tolist() == list(range(len(names))) or names[0] < 0:
        return values.astype(np.int64), (), ""
    return numbers, tuple(str(name) for name in names), f", numbered from 0: {', '.join(map(str, names[:8]))}"
