"""Images, ids and patients of a user's data set, whatever its samples look like."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from torchgenaug.errors import ConfigurationError
from torchgenaug.samples.own_copy import own_copy
from torchgenaug.samples.random_state import random_state_restored

_ID_KEYS, _PATIENT_KEYS = ("id", "sample_id", "path", "filename"), ("patient", "patient_id", "subject", "subject_id")


class RealImages:
    """The images of a data set, read one by one, through a copy of it: (channels, *spatial) each.

    Args:
        dataset: samples are tensors, tuples, dicts or Subjects.
        field: the image's name in a dict or Subject, or its position in a tuple; None for ``image``, or else the first
            part of a sample with two axes or more.
    """

    def __init__(self, dataset: Any, field: str | int | None = None) -> None:
        self.dataset, self.field = own_copy(dataset), field

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor:
        with random_state_restored():
            sample = self.dataset[index]
        image = _image_of(sample, self.field)
        if image is None:
            raise ConfigurationError(
                f"A sample must hold an image with two or three spatial axes, got {type(sample).__name__} at index "
                f"{index}{'' if self.field is None else f' without {self.field!r}'}. Its content cannot be compared. "
                "Name the image: image_field='image'."
            )
        return image if image.ndim > 2 else image[None]


def _image_of(sample: Any, field: str | int | None) -> Tensor | None:
    if field is not None:
        parts = [sample[field]] if not isinstance(sample, Mapping) or field in sample else []
    elif isinstance(sample, Mapping):
        parts = [sample["image"]] if "image" in sample else list(sample.values())
    else:
        parts = list(sample) if isinstance(sample, (tuple, list)) else [sample]
    for part in parts:
        data = part if isinstance(part, (Tensor, np.ndarray)) else getattr(part, "data", part)
        if isinstance(data, (Tensor, np.ndarray)) and data.ndim >= 2:
            return torch.as_tensor(data)
        if hasattr(part, "convert") and hasattr(part, "size"):  # a PIL image
            array = torch.from_numpy(np.array(part))
            return array if array.ndim == 2 else array.movedim(2, 0)
    return None


def names_of(dataset: Any, kind: str) -> tuple[str, ...]:
    """Ids (``kind="ids"``) or patients (``"patients"``) of the samples of a data set, one for each; empty if unknown.

    They are read off an attribute of that name (as `torchgenaug.recipes.data.load.load_data` gives it), through
    `Subset` and `ConcatDataset`, or off the entries ``id``, ``path``, ``patient``, … of dict samples.
    """
    if isinstance(dataset, (Tensor, np.ndarray)):
        return ()
    if isinstance(dataset, Subset):
        names = names_of(dataset.dataset, kind)
        return tuple(names[index] for index in dataset.indices) if names else ()
    if isinstance(dataset, ConcatDataset):
        parts = [names_of(part, kind) for part in dataset.datasets]
        return tuple(name for part in parts for name in part) if all(parts) else ()
    stated: Any = getattr(dataset, kind, None)
    if hasattr(stated, "tolist"):  # an array, a tensor or a column of a table
        stated = stated.tolist()
    if isinstance(stated, Sequence) and not isinstance(stated, str) and len(stated) == len(dataset):
        return tuple(map(str, stated))
    inner = getattr(dataset, "dataset", None) or getattr(dataset, "data", None)
    if inner is not None and not isinstance(inner, (Tensor, np.ndarray)) and hasattr(inner, "__len__"):
        if isinstance(inner, Sequence) and inner and isinstance(inner[0], Mapping):
            return _column(inner, kind)  # MONAI: the list of dicts of paths
        if len(inner) == len(dataset):
            return names_of(inner, kind)
    if isinstance(dataset, Sequence) and len(dataset) and isinstance(dataset[0], Mapping):
        return _column(dataset, kind)
    return ()


def folder_of(dataset: Any, index: int = 0) -> Path | None:
    """The folder that `torchgenaug.recipes.data.load.load_data` read sample `index` from; None of any other data."""
    while isinstance(dataset, (Subset, ConcatDataset)):
        if isinstance(dataset, Subset):
            index, dataset = dataset.indices[index], dataset.dataset
        else:
            part = bisect_right(dataset.cumulative_sizes, index)
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
    name = getattr(dataset, "name", None)
    if not isinstance(name, str) or not hasattr(dataset, "reading") or not Path(name).is_dir():
        return None
    return Path(name).resolve()


def folders_of(dataset: Any) -> set[Path | None]:
    """The folders of all samples, see `folder_of`."""
    if isinstance(dataset, Subset):
        return folders_of(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return {folder for part in dataset.datasets for folder in folders_of(part)}
    return {folder_of(dataset)}


def _column(samples: Sequence[Any], kind: str) -> tuple[str, ...]:
    for key in _ID_KEYS if kind == "ids" else _PATIENT_KEYS:
        if all(key in sample and isinstance(sample[key], (str, int)) for sample in samples):
            return tuple(str(sample[key]) for sample in samples)
    return ()


def images_or_view(dataset: Any, field: str | int | None = None) -> Any:
    """`dataset` where it is a tensor of images (an array: as a tensor); else a view of its images."""
    if isinstance(dataset, np.ndarray) and dataset.dtype.kind in "biuf":
        dataset = torch.as_tensor(dataset)
    if isinstance(dataset, Tensor) and field is None:
        return dataset
    samples = getattr(dataset, "samples", None)  # TrainingData
    if samples is not None and hasattr(dataset, "ids") and hasattr(samples, "__getitem__"):
        return RealImages(samples, field)
    return RealImages(dataset, field)
