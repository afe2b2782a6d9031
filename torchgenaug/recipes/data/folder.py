"""Training data from a folder of images or volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.files import Reading, read_image, read_mask
from torchgenaug.recipes.data.layout import read_layout
from torchgenaug.recipes.data.listing import some
from torchgenaug.recipes.data.parts import Part
from torchgenaug.recipes.data.records import FileRecord, Layout, patients_of
from torchgenaug.recipes.data.resize import thick_axes
from torchgenaug.recipes.data.scan import RawData, conform
from torchgenaug.recipes.data.selection import Selection
from torchgenaug.recipes.data.spacing import resample
from torchgenaug.recipes.data.suspicion import MaskWatch
from torchgenaug.recipes.data.training_data import TrainingData

_COLOURS = 3


class ReadNotes:
    """What was changed while files were read: note → the samples, and the spacings that were found."""

    def __init__(self) -> None:
        self.samples: dict[str, list[str]] = {}
        self.spacings: dict[tuple[float, ...], str] = {}
        self.x_first = False

    def add(self, key: str, reading: Reading) -> None:
        """Takes note of a file."""
        for note in reading.notes:
            known = self.samples.setdefault(note, [])
            if key not in known[-1:]:
                known.append(key)
        self.x_first |= reading.x_first
        if reading.spacing_mm is not None:
            self.spacings.setdefault(tuple(round(each, 3) for each in reading.spacing_mm), key)

    def remarks(self, resampled: bool) -> tuple[str, ...]:
        """A sentence for each note."""
        found = [
            f"{note[0].upper()}{note[1:]}: {len(keys)} file{'s' if len(keys) > 1 else ''} ({some(keys)})."
            for note, keys in self.samples.items()
        ]
        if len(self.spacings) > 1 and not resampled:
            first, last = min(self.spacings), max(self.spacings)
            found.append(
                f"Spacings differ, from {first} mm ({self.spacings[first]}) to {last} mm ({self.spacings[last]}): "
                f"--spacing {','.join(f'{each:g}' for each in first)} brings all to one."
            )
        return tuple(found)


class FolderSamples:
    """The samples of some files, read anew each time; picklable.

    Args:
        records: the files.
        spacing_mm: spacing to resample to, per spatial axis; None: as the files are.
        num_channels: of every image: where files differ without a loss, grey becomes colour or the reverse.
    """

    def __init__(
        self, records: Sequence[FileRecord], spacing_mm: Sequence[float] | None = None, num_channels: int | None = None
    ) -> None:
        self.records, self.spacing_mm = tuple(records), None if spacing_mm is None else tuple(spacing_mm)
        self.num_channels = num_channels
        self.notes: ReadNotes | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        record = self.records[index]
        image = _with_channels(read_image(record.image), self.num_channels)
        readings = {"image": image}
        if record.mask:
            readings["mask"] = read_mask(record.mask)
            _check_axes(image, readings["mask"], record.mask)
        if record.source:
            readings["source"] = read_image(record.source)
            _check_axes(image, readings["source"], record.source)
        if self.notes is not None:
            for name, reading in readings.items():
                self.notes.add(record.key if name == "image" else f"{name} of {record.key}", reading)
        sample = {name: reading.values for name, reading in readings.items()}
        if self.spacing_mm is not None:
            sample = resample(sample, image.spacing_mm, self.spacing_mm, record.key)
        if record.label is not None:
            sample["label"] = torch.tensor(record.label)
        return sample


def from_folder(
    folder: Path,
    size: int | Sequence[int] | None = None,
    spacing_mm: float | Sequence[float] | None = None,
    selection: Selection | None = None,
) -> TrainingData:
    """The images below `folder`; every file is read once here, see `read_layout` for layouts and `conform` for checks.

    Args:
        folder: where they are.
        size: as in `load_data`.
        spacing_mm: spacing that TorchIO resamples to, one number or one per axis; None: as the files are.
        selection: what the user states about the files.

    Raises:
        EmptyDatasetError: no image there.
        ConfigurationError: files that do not fit together or cannot be read; they are named.
        MissingExtraError: the package that reads a kind of file is not installed.
    """
    return from_layout(read_layout(folder, selection), str(folder), size, spacing_mm, selection)


def from_layout(
    layout: Layout,
    name: str,
    size: int | Sequence[int] | None,
    spacing_mm: float | Sequence[float] | None,
    selection: Selection | None = None,
) -> TrainingData:
    """The samples of a layout, read once and checked."""
    records = layout.records
    first = read_image(records[0].image)
    samples = FolderSamples(records, _per_axis(spacing_mm, first.values.ndim - 1), len(first.values))
    notes = samples.notes = ReadNotes()
    watch = MaskWatch([each.key for each in records], lambda index: str(records[index].image[0]))
    chosen = selection is not None and selection.images is not None
    raw = RawData(
        samples,
        name,
        tuple(each.key for each in records),
        lambda index: str(records[index].image[0]),
        patients=patients_of(records),
        class_names=layout.class_names,
        remarks=layout.remarks,
        mask_places=lambda index: " and ".join(map(str, records[index].mask[:3])),
        watch=None if chosen else watch.see,
        remarks_after=lambda: (*watch.remarks(), *notes.remarks(spacing_mm is not None)),
        stretched=thick_axes(tuple(samples[0]["image"].shape[1:]), samples.spacing_mm or first.spacing_mm),
        quarter_turns=int(first.x_first),
    )
    data = conform(raw, size)
    samples.notes = None
    return data


def _with_channels(reading: Reading, wanted: int | None) -> Reading:
    """Grey repeated as colour, or colours that are all grey as grey; whatever else differs is refused later."""
    have = len(reading.values)
    if wanted == 1 and have == _COLOURS and bool((reading.values == reading.values[:1]).all()):
        note = "colours that are all grey were read as grey"
        return replace(reading, values=reading.values[:1], notes=(*reading.notes, note))
    if wanted == _COLOURS and have == 1:
        note = "grey was read as colour, as the other images are"
        return replace(reading, values=reading.values.repeat(_COLOURS, *[1] * (reading.values.ndim - 1)),
                       notes=(*reading.notes, note))  # fmt: skip
    return reading


def _check_axes(image: Reading, other: Reading, parts: Sequence[Part]) -> None:
    """Refuses files that lie on the image by their number of pixels only."""
    if image.x_first != other.x_first:
        raise ConfigurationError(
            f"An image and what belongs to it must have their axes in one order, got (x, y, …) of one and (…, y, x) of "
            f"the other at {parts[0]}. Save both in one format."
        )
    stated = {reading.stored_axes.endswith("?") for reading in (image, other)}
    if image.stored_axes.rstrip("?") != other.stored_axes.rstrip("?") and len(stated) == 2:
        raise ConfigurationError(
            f"A mask must state the orientation of its image, got {other.stored_axes} of {parts[0]} for an image of "
            f"{image.stored_axes} (? is a default, which says nothing). One would be mirrored. Save it with the "
            "affine of its image: nibabel.Nifti1Image(mask, image.affine)."
        )


def _per_axis(spacing_mm: float | Sequence[float] | None, dims: int) -> tuple[float, ...] | None:
    if spacing_mm is None:
        return None
    wanted = (float(spacing_mm),) * dims if isinstance(spacing_mm, (int, float)) else tuple(map(float, spacing_mm))
    if len(wanted) != dims or not all(0 < each < float("inf") for each in wanted):
        raise ConfigurationError(
            f"`spacing` must be one positive number (mm), or {dims} of them for these images, got {spacing_mm!r}. For "
            f"example {','.join('1' * dims)}."
        )
    return wanted
