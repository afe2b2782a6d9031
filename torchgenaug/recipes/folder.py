"""A folder of images or volumes as DATA: flat, by class, or with masks and sources beside the images."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, EmptyDatasetError, missing_extra
from torchgenaug.recipes.data import TrainingData
from torchgenaug.recipes.scan import RawData, conform

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_VOLUMES = (".nii", ".nii.gz")
_FORMATS = (*_PICTURES, *_VOLUMES, ".npy", ".dcm")
_PAIRED = {"image": "images", "mask": "masks", "source": "sources"}
_TABLE = "labels.csv"


def from_folder(folder: Path, size: int | Sequence[int] | None = None) -> TrainingData:
    """The images or volumes in `folder`.

    Layouts: files in the folder itself or anywhere below it; one folder per class (in alphabetical order: classes 0, 1,
    …); ``images/`` with ``masks/`` or ``sources/`` or both, whose files have the same names but for the ending. A
    ``labels.csv`` with the columns ``file`` and ``label`` or ``patient`` or both may lie beside them. The patient is
    also read off a part ``sub-XXX`` of a path.

    Formats: PNG, JPEG, BMP, TIFF (grey or RGB), NIfTI (turned to RAS+), DICOM (single slices), ``.npy`` (channels,
    *spatial) or (*spatial).

    Raises:
        EmptyDatasetError: no such file.
        ConfigurationError: files that cannot be read or do not go together.
    """
    root = folder / _PAIRED["image"]
    paired = root.is_dir()
    images = _files(root if paired else folder)
    if not images:
        raise EmptyDatasetError(
            f"{str(folder)!r} must hold images ({', '.join(_FORMATS)}), got none. Check the path; other formats go "
            "through package.module:factory."
        )
    paths: dict[str, list[Path]] = {"image": images}
    if paired:
        for name in ("mask", "source"):
            if (folder / _PAIRED[name]).is_dir():
                paths[name] = _partners(images, root, folder / _PAIRED[name], name)
    table = _table(folder)
    labels, class_names = _labels(images, root if paired else folder, table)
    ids = tuple(str(path.relative_to(folder)) for path in images)
    return conform(
        RawData(
            FolderSamples(paths, labels),
            str(folder),
            ids,
            lambda index: ids[index],
            patients=_patients(images, table),
            class_names=class_names,
        ),
        size,
    )


class FolderSamples:
    """Files read one at a time; picklable."""

    def __init__(self, paths: Mapping[str, Sequence[Path]], labels: Sequence[int] | None) -> None:
        self.paths, self.labels = dict(paths), labels

    def __len__(self) -> int:
        return len(self.paths["image"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = {name: read_image(paths[index]) for name, paths in self.paths.items()}
        if self.labels is not None:
            sample["label"] = torch.tensor(self.labels[index])
        return sample


def read_image(path: Path) -> Tensor:
    """One file as (channels, *spatial).

    Raises:
        ConfigurationError: a file that cannot be read.
        MissingExtraError: DICOM without pydicom.
    """
    try:
        values = _read(path)
    except (ImportError, ConfigurationError):
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{path} must be a readable image, got {error!r}. Repair it, or take it out of the folder."
        ) from error
    if values.dtype == np.uint16:
        values = values.astype(np.int32)  # torch knows few operations on uint16
    return torch.from_numpy(np.array(values))  # a copy: PIL's and nibabel's are read-only


def _read(path: Path) -> npt.NDArray[Any]:
    ending = _ending(path)
    if ending in _VOLUMES:
        import nibabel

        image: Any = nibabel.load(path)
        values: npt.NDArray[Any] = np.asarray(nibabel.as_closest_canonical(image).dataobj).squeeze()  # type: ignore[no-untyped-call]
        return values[None].astype(np.float32 if values.dtype.kind == "f" else values.dtype.newbyteorder("="))
    if ending == ".npy":
        values = np.load(path, allow_pickle=False)
        return values[None] if values.ndim == 2 or (values.ndim == 3 and min(values.shape) > 4) else values
    if ending == ".dcm":
        try:
            from pydicom import dcmread
        except ImportError as error:
            raise missing_extra("Reading DICOM", package="pydicom", extra="fit") from error
        read = dcmread(path)
        slope, intercept = float(read.get("RescaleSlope", 1)), float(read.get("RescaleIntercept", 0))
        pixels: npt.NDArray[Any] = read.pixel_array.astype(np.float32)
        return (pixels * slope + intercept)[None]
    from PIL import Image

    with Image.open(path) as opened:
        odd = opened.mode in ("P", "RGBA", "LA", "CMYK", "YCbCr", "1")
        values = np.asarray(opened.convert("L" if opened.mode in ("1", "LA") else "RGB") if odd else opened)
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def _files(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file() and _ending(path) and not path.name.startswith(".")]
    return sorted(found)


def _ending(path: Path) -> str:
    """The known ending of a file's name; empty if there is none."""
    name = path.name.lower()
    return next((ending for ending in (".nii.gz", *_FORMATS) if name.endswith(ending)), "")


def _stem(path: Path, root: Path) -> str:
    relative = str(path.relative_to(root))
    return relative[: len(relative) - len(_ending(path))]


def _partners(images: Sequence[Path], root: Path, folder: Path, name: str) -> list[Path]:
    """The file of `folder` that goes with each image."""
    found = {_stem(path, folder): path for path in _files(folder)}
    missing = [path.name for path in images if _stem(path, root) not in found]
    if missing:
        raise ConfigurationError(
            f"Every image must have a {name} of the same name in {folder}, got none for {len(missing)} of "
            f"{len(images)}: {', '.join(missing[:3])}. Add them, or take these images out."
        )
    return [found[_stem(path, root)] for path in images]


def _table(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of ``labels.csv`` by file."""
    path = folder / _TABLE
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or "file" not in rows[0] or not {"label", "patient"} & set(rows[0]):
        raise ConfigurationError(
            f"{path} must have the columns file and label or patient, got {list(rows[0]) if rows else 'no rows'}."
        )
    return {row["file"]: row for row in rows}


def _row(path: Path, table: Mapping[str, dict[str, str]], column: str) -> str:
    """What the table says of a file, named by its name or the end of its path."""
    for name in (path.name, str(Path(*path.parts[-2:])), path.name.removesuffix(_ending(path))):
        if name in table:
            return table[name][column]
    raise ConfigurationError(f"{_TABLE} must have a row for every image, got none for {path.name}. Add it.")


def _labels(
    images: Sequence[Path], root: Path, table: Mapping[str, dict[str, str]]
) -> tuple[list[int] | None, tuple[str, ...]]:
    """Class of each image and names of the classes, from the table or from folders; None where there are none."""
    if table and "label" in next(iter(table.values())):
        words = [_row(path, table, "label") for path in images]
    else:
        if any(path.parent == root for path in images):
            return None, ()
        words = [path.relative_to(root).parts[0] for path in images]
        # Folders of patients, sub-01 and so on, are no classes.
        if len(set(words)) < 2 or all(_patient(Path(word)) for word in words):
            return None, ()
    numeric = all(word.isdecimal() for word in words)
    names = sorted(set(words), key=(lambda word: (int(word), word)) if numeric else None)
    return [names.index(word) for word in words], tuple(names)


def _patients(images: Sequence[Path], table: Mapping[str, dict[str, str]]) -> tuple[str, ...]:
    if table and "patient" in next(iter(table.values())):
        return tuple(_row(path, table, "patient") for path in images)
    found = [_patient(path) for path in images]
    return tuple(found) if all(found) else ()


def _patient(path: Path) -> str:
    match = re.search(r"(?:^|[/_])(sub-[A-Za-z0-9]+)", path.as_posix())
    return match[1] if match else ""
