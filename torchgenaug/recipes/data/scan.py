"""`conform`: samples as somebody wrote them, looked at once from first to last, as `TrainingData`.

Whatever is wrong is reported here, with the place, before any network exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.progress import counted
from torchgenaug.recipes.data.columns import ImageColumn, LabelColumn
from torchgenaug.recipes.data.mask_column import Classes, MaskColumn
from torchgenaug.recipes.data.resize import fit_image, fit_mask, only_pads, target_size, thick_axes
from torchgenaug.recipes.data.training_data import UNLABELLED, Samples, TensorSamples, TrainingData
from torchgenaug.types import FieldSpec

MAX_BYTES_IN_MEMORY = 2 << 30
_COLUMNS = {"image": ImageColumn, "source": ImageColumn, "mask": MaskColumn, "label": LabelColumn}


@dataclass(frozen=True)
class RawData:
    """Samples as they were read.

    Args:
        samples: sample k is a dict of ``image`` and perhaps ``source`` (channels, *spatial) of any real dtype, ``mask``
            (1, *spatial) of whole numbers, ``label`` (); NaN where it is not known.
        name, ids, patients, class_names, remarks: as in `TrainingData`.
        places: where sample k is, for errors: a file, an index.
        mask_places: where the mask of sample k is; None: where the sample is.
        watch: called with the index and the sample as each is read.
        remarks_after: more remarks, once all were read; may refuse the data.
        stretched: spatial axes that are scaled on their own, see `fit_image`; None: those that are thin.
        quarter_turns: as in `TrainingData`.
    """

    samples: Samples
    name: str
    ids: tuple[str, ...]
    places: Callable[[int], str]
    patients: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    mask_places: Callable[[int], str] | None = None
    watch: Callable[[int, Mapping[str, Tensor]], None] | None = None
    remarks_after: Callable[[], tuple[str, ...]] | None = None
    stretched: tuple[int, ...] | None = None
    quarter_turns: int = 0


class ConformedSamples:
    """Samples read anew each time and brought to the size, range and classes that the scan found.

    Args:
        samples: as read.
        convert: per field, from the tensor as it was read to the one that comes out.
        known_labels: (samples,) int64, so that asking for labels reads no image; None without labels.
    """

    def __init__(
        self, samples: Samples, convert: Mapping[str, Callable[[Tensor], Tensor]], known_labels: Tensor | None
    ) -> None:
        self.samples, self.convert, self.known_labels = samples, convert, known_labels

    def __len__(self) -> int:
        return len(self.samples)

    def labels(self) -> Tensor | None:
        """(samples,) int64; None without labels."""
        return self.known_labels

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.samples[index]
        return {name: convert(sample[name]) for name, convert in self.convert.items()}


@dataclass(frozen=True)
class _Image:
    """Conversion of an image: [0, 1] for 8 bits, the size, the range."""

    size: tuple[int, ...]
    stretched: tuple[int, ...] = ()
    limits: tuple[float, float] | None = None

    def __call__(self, values: Tensor) -> Tensor:
        scaled = values.float() / 255 if values.dtype == torch.uint8 else values.float()
        fitted = fit_image(scaled, self.size, self.stretched)
        return fitted if self.limits is None else fitted.clamp(*self.limits)


@dataclass(frozen=True)
class _Mask:
    """Conversion of a mask: the size, and classes from 0; without classes, as they were read."""

    size: tuple[int, ...]
    stretched: tuple[int, ...] = ()
    classes: Classes | None = None

    def __call__(self, values: Tensor) -> Tensor:
        fitted = fit_mask(values, self.size, self.stretched)
        return fitted if self.classes is None else self.classes(fitted)


def _label(value: Tensor) -> Tensor:
    known = not value.is_floating_point() or not bool(value.isnan())
    return (value.long() if known else torch.tensor(UNLABELLED)).reshape(())


def conform(raw: RawData, size: int | Sequence[int] | None) -> TrainingData:
    """Reads every sample once, checks it, and finds the ranges and classes.

    The samples stay in memory up to 2 GiB; beyond that, or where reading sample 0 twice gives two things (a data set
    that augments), they are read again each time. 8-bit images come out in [0, 1], others in their own unit.

    Args:
        raw: the samples.
        size: spatial size of what comes out, see `target_size`.

    Raises:
        EmptyDatasetError: no samples.
        ConfigurationError: samples that differ in fields, channels or (without `size`) in size, images with NaN,
            classes that are not 0, 1, 2, …, masks that are no classes; the place and the remedy are named.
    """
    if len(raw.ids) == 0:
        raise EmptyDatasetError(f"{raw.name!r} must hold samples to train on, got none. Add some.")
    with torch.random.fork_rng(devices=[]):  # A data set that augments draws from the global generator.
        first, again = raw.samples[0], raw.samples[0]
        varies = not all(torch.equal(first[name].nan_to_num(), again[name].nan_to_num()) for name in first)
        columns: dict[str, Any] = {
            name: _COLUMNS[name](name, (raw.mask_places if name == "mask" else None) or raw.places, len(raw.ids))
            for name in first
        }
        target = target_size(first["image"].shape[1:], size)
        stretched = thick_axes(first["image"].shape[1:], None) if raw.stretched is None else raw.stretched
        convert = _conversions(first, target, stretched)
        kept: dict[str, list[Tensor]] | None = None if varies else {name: [] for name in first}
        num_bytes = 0
        for index in counted(len(raw.ids), f"read {raw.name}:", "images"):
            sample = raw.samples[index]
            _check_names(sample, first, raw.places(index))
            for name, column in columns.items():
                column.see(index, sample[name], sample["image"])
            if raw.watch is not None:
                raw.watch(index, sample)
            if kept is None or (columns["image"].offenders and size is None):
                continue  # it will be refused, once the sizes of all are known
            for name, values in kept.items():
                values.append(convert[name](sample[name]))
                num_bytes += values[-1].nbytes
            if num_bytes > MAX_BYTES_IN_MEMORY:
                kept = None
    if "label" in columns and not columns["label"].any_known:
        del columns["label"]
        first = {name: values for name, values in first.items() if name != "label"}
        if kept is not None:
            del kept["label"]
    later = () if raw.remarks_after is None else raw.remarks_after()
    columns["image"].check_sizes(size is not None)
    specs = {name: column.spec(target) for name, column in columns.items()}
    final = _conversions(first, target, stretched, columns, specs)
    labels = columns["label"].labels() if "label" in columns else None
    remarks = [*raw.remarks, *later, *(text for column in columns.values() for text in column.remarks)]
    remarks += _size_remarks(first["image"].shape[1:], target, size, stretched)
    if varies:
        remarks.append(
            "Sample 0 differed when read twice: the data set augments, so samples are read anew each time, and a "
            "stopped run does not resume to exactly the same weights."
        )
    elif kept is None:
        remarks.append("The samples take more than 2 GiB and are read from where they are each time: use --workers.")
    return TrainingData(
        samples=ConformedSamples(raw.samples, final, labels) if kept is None else _in_memory(kept, columns, specs),
        fields=specs,
        ids=raw.ids,
        name=raw.name,
        patients=raw.patients,
        class_names=raw.class_names,
        remarks=tuple(remarks),
        varies=varies,
        quarter_turns=raw.quarter_turns,
    )


def _conversions(
    first: Mapping[str, Tensor],
    size: tuple[int, ...],
    stretched: tuple[int, ...],
    columns: Mapping[str, Any] | None = None,
    specs: Mapping[str, FieldSpec] | None = None,
) -> dict[str, Callable[[Tensor], Tensor]]:
    convert: dict[str, Callable[[Tensor], Tensor]] = {}
    for name in first:
        if name == "label":
            convert[name] = _label
        elif name == "mask":
            convert[name] = _Mask(size, stretched, columns["mask"].classes() if columns else None)
        else:
            convert[name] = _Image(size, stretched, specs[name].value_range if specs else None)
    return convert


def _in_memory(
    kept: Mapping[str, list[Tensor]], columns: Mapping[str, Any], specs: Mapping[str, FieldSpec]
) -> TensorSamples:
    stacked = {}
    for name, values in kept.items():
        if name == "mask":  # files of several types may hold the masks of one set
            values[:] = [columns[name].classes()(each) for each in values]
        column = torch.stack(values)
        values.clear()
        limits = specs[name].value_range
        if specs[name].kind == "intensity" and limits is not None:
            column.clamp_(*limits)
        stacked[name] = column
    return TensorSamples(stacked)


def _check_names(sample: Mapping[str, Tensor], first: Mapping[str, Tensor], place: str) -> None:
    if sample.keys() != first.keys():
        raise ConfigurationError(
            f"Every sample must have the fields of the first one, {sorted(first)}, got {sorted(sample)} at {place}. "
            "Leave that sample out, or complete it."
        )


def _size_remarks(spatial: Sequence[int], target: tuple[int, ...], size: object, stretched: Sequence[int]) -> list[str]:
    if tuple(spatial) == target:
        return []
    if stretched:
        axes = " and ".join(str(axis) for axis in stretched)
        return [
            f"Volumes (the first: {tuple(spatial)}) were scaled to {target}; axis {axes}, of thick slices, on its own, "
            "so that no plane is padding. Proportions are kept by --spacing."
        ]
    if size is None:
        return [f"Images of {tuple(spatial)} were padded to {target}: networks halve the sizes several times."]
    how = "padded" if only_pads(spatial, target) else "scaled, proportions kept, and padded"
    return [f"Images (the first: {tuple(spatial)}) were {how} to {target}."]


__all__ = ["MAX_BYTES_IN_MEMORY", "ConformedSamples", "RawData", "conform"]
