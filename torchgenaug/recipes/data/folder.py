"""A folder of images or volumes as DATA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from torchgenaug.recipes.data.files import read_image, read_mask
from torchgenaug.recipes.data.layout import FileRecord, patients_of, read_layout
from torchgenaug.recipes.data.scan import RawData, conform
from torchgenaug.recipes.data.training_data import TrainingData


class FolderSamples:
    """The samples of some files, read anew each time; picklable."""

    def __init__(self, records: Sequence[FileRecord]) -> None:
        self.records = tuple(records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        record = self.records[index]
        sample = {"image": read_image(record.image)}
        if record.mask is not None:
            sample["mask"] = read_mask(record.mask)
        if record.source is not None:
            sample["source"] = read_image(record.source)
        if record.label is not None:
            sample["label"] = torch.tensor(record.label)
        return sample


def from_folder(folder: Path, size: int | Sequence[int] | None = None) -> TrainingData:
    """The images below `folder`; every file is read once here, see `read_layout` for layouts and `conform` for checks.

    Files: png, jpg, bmp, tif, NIfTI (turned to RAS+), npy, and DICOM (in its own unit, HU for CT) where pydicom is
    installed.

    Raises:
        EmptyDatasetError: no image there.
        ConfigurationError: files that do not fit together or cannot be read; they are named.
        MissingExtraError: the package that reads a kind of file is not installed.
    """
    records, class_names = read_layout(folder)
    raw = RawData(
        FolderSamples(records),
        str(folder),
        tuple(each.key for each in records),
        lambda index: str(records[index].image),
        patients=patients_of(records),
        class_names=class_names,
    )
    return conform(raw, size)
