"""`load_data`: training data by name: an embedded set, a folder, an array file, or a factory."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.local_paths import local_path
from torchgenaug.recipes.data.readers.containers import HDF5, MATLAB
from torchgenaug.recipes.data.selection import Folders, Selection
from torchgenaug.recipes.data.training_data import Split, TrainingData

_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
_STANDS_FOR_ITS_FOLDER = {"dataset.json", "dataset_description.json", "participants.tsv", "labels.csv", "labels.tsv",
                          "labels.txt"}  # fmt: skip


def load_data(
    name: str | os.PathLike[str],
    *,
    split: Split = "train",
    size: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    images: str | None = None,
    masks: str | None = None,
    folders: Folders | None = None,
    table: str | None = None,
    volumes: bool = False,
) -> TrainingData:
    """Training data by name.

    Args:
        name: ``"digits"``, ``"brain"``, ``"brain-3d"``, ``"brain-t1-t2"`` or ``"nuclei"``; a folder of images or
            volumes, see `torchgenaug.recipes.data.layout.read_layout`; a file (.npz, .npy, .h5, .mat) of many
            images; or
            ``"package.module:factory"``, see `torchgenaug.recipes.data.factory.from_factory`. Write ``./digits`` for a
            folder of such a name.
        split: ``"train"``, or ``"held_out"`` of an embedded set; the others are split by `TrainingData.split`.
        size: spatial size: one number for a square or a cube, or one per axis. Images are scaled with their
            proportions, antialiased, and padded; masks take the nearest value; an axis of thick slices is scaled on
            its own. None: as the data are, sizes rounded up to multiples of 8.
        spacing: of a folder: distance of neighbouring pixels in mm to resample to (by TorchIO, before `size`): one
            number, or one per axis. None: as the files are.
        images: of a folder: glob of the image files below it, ``"scans/*.png"``; ``a|b`` for several. None: as names
            suggest.
        masks: of a folder: glob of the masks, several parted by ``|`` for masks of several kinds, which are united;
            ``"none"``: there are none. None: as names suggest.
        folders: of a folder: whether subfolders are ``"classes"``, ``"patients"`` or nothing (``"ignore"``).
            None: as names suggest.
        table: of a folder: the table that states classes and patients, a path below it; ``"FILE:COLUMN"`` names its
            column of classes, ``"FILE:COLUMN=VALUE"`` means two classes, files with that value (perhaps among others,
            ``a|b``) and without; ``"none"``: no table. None: ``labels.csv``, or the only table that names the images
            and their classes.
        volumes: whether the single-slice DICOM files of each series are stacked into one volume, sorted by their
            positions, and arrays of three axes (.npy, .npz, .h5, .mat) are volumes even where one of them is short
            enough for channels. Three numbers in `size` or `spacing` mean so, too.

    Raises:
        ConfigurationError: an unknown name, or data that cannot be trained on.
        EmptyDatasetError: no samples.
        MissingExtraError: the package that holds or reads the data is not installed.
    """
    from torchgenaug.recipes.data import embedded

    volumes = volumes or any(isinstance(each, Sequence) and len(each) == 3 for each in (size, spacing))
    name, selection = os.fspath(name), Selection(images, masks, folders, table, volumes)
    is_selected = spacing is not None or selection != Selection(volumes=volumes)
    loader = embedded.LOADERS.get(name)
    folder = Path(name).expanduser()
    folder = folder if folder.exists() else local_path(name)
    is_factory = ":" in name and not folder.exists() and not _OF_WINDOWS.match(name)
    if is_selected and (loader is not None or is_factory):
        raise ConfigurationError(
            f"`spacing`, `images`, `masks`, `folders` and `table` must be left out but for a folder, got them for "
            f"{name!r}. A function of your own can do the same itself."
        )
    if loader is not None:
        data = embedded.resized(loader(split), size)
        if not len(data):
            raise EmptyDatasetError(f"{name!r} has no samples in split {split!r}.")
        return data
    if split != "train" and (folder.exists() or ":" in name):
        raise ConfigurationError(
            f"`split` must be 'train' for data of your own, got {split!r} for {name!r}. "
            "Part them: load_data(…).split()."
        )
    options = {**asdict(selection), "spacing": spacing}
    reading = {key: value for key, value in options.items() if value not in (None, False)}
    if folder.is_dir():
        from torchgenaug.recipes.data.folder import from_folder

        return replace(from_folder(folder, size, spacing, selection), reading=reading)
    if folder.suffix.lower() in (".npz", ".npy", *HDF5, MATLAB) and folder.is_file():
        return replace(_array_file(folder, size, spacing, selection), reading=reading)
    if folder.name.lower() in _STANDS_FOR_ITS_FOLDER and folder.is_file():
        data = load_data(folder.parent, size=size, spacing=spacing, images=images, masks=masks, folders=folders,
                         table=table, volumes=volumes)  # fmt: skip
        return replace(data, remarks=(f"{folder.name} stands for its folder.", *data.remarks))
    if is_factory:
        from torchgenaug.recipes.data.factory import from_factory

        return from_factory(name, size)
    what = f"a file. Give its folder: {folder.parent}" if folder.exists() else f"none of them. {_missing(folder)}"
    raise ConfigurationError(
        f"DATA must be one of {', '.join(embedded.LOADERS)}, a folder, or package.module:factory, got {name!r}, which "
        f"is {what}."
    )


def _array_file(
    path: Path, size: int | Sequence[int] | None, spacing: float | Sequence[float] | None, selection: Selection
) -> TrainingData:
    from torchgenaug.recipes.data.folder import from_layout
    from torchgenaug.recipes.data.listing import Listing
    from torchgenaug.recipes.data.stacks import read_chosen_stacks

    path = Path(os.path.abspath(path))
    layout = read_chosen_stacks(Listing(path.parent, [path]), selection)
    if layout is None:
        raise ConfigurationError(
            f"DATA must be a folder, or an array file of many images (train_images and train_labels, or images and "
            f"labels), got {path}. Give its folder: {path.parent}."
        )
    return from_layout(layout, str(path), size, spacing)


def _missing(folder: Path) -> str:
    """Where the path stops to exist, which shows what is misspelt or where it was looked for."""
    absolute = Path(os.path.abspath(folder))
    if absolute.is_symlink():
        return f"{absolute} is a link to {os.readlink(absolute)}, which does not exist: fetch the data (dvc pull)"
    forward = local_path(os.fspath(folder).replace("\\", "/"))
    if forward != folder and forward.exists():
        return f"Folders are parted by / here: write {forward}"
    there = next((parent for parent in absolute.parents if parent.exists()), absolute)
    return f"There is no {absolute.relative_to(there).parts[0]} in {there}. Check the path"
