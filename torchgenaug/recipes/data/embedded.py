"""The embedded real data sets as `TrainingData`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import torch

from torchgenaug.recipes.data.resize import fit_image, fit_mask, target_size
from torchgenaug.recipes.data.training_data import Split, TensorSamples, TrainingData
from torchgenaug.types import FieldSpec

if TYPE_CHECKING:
    from torchgenaug.datasets.brain_contrasts import BrainContrasts
    from torchgenaug.datasets.nuclei import NucleiTiles

_UNIT = (0.0, 1.0)


def digits(split: Split) -> TrainingData:
    """MNIST digits 32 x 32 with their class."""
    from torchgenaug.datasets.digits import Digits

    real = Digits(split)
    return TrainingData(
        samples=TensorSamples({"image": real.images, "label": real.labels}),
        fields={"image": FieldSpec((1, 32, 32), value_range=_UNIT), "label": class_field(10)},
        ids=tuple(f"mnist5k row {row}" for row in real.rows),
        name="digits",
    )


def brain(split: Split) -> TrainingData:
    """Axial slices 64 x 64 of the ICBM152 brain with tissue mask and level."""
    from torchgenaug.datasets.brain import NUM_LEVELS, NUM_TISSUES, BrainSlices

    real = BrainSlices(split)
    return TrainingData(
        samples=TensorSamples(
            {"image": real.images, "mask": real.masks, "label": torch.tensor(real.labels, dtype=torch.int64)}
        ),
        fields={
            "image": FieldSpec((1, 64, 64), value_range=_UNIT),
            "mask": mask_field((64, 64), NUM_TISSUES),
            "label": class_field(NUM_LEVELS),
        },
        ids=tuple(f"ICBM152 axial row {row}" for row in real.rows),
        name="brain",
        remarks=("One brain only: slices are held out by place, not by patient.",),
        quarter_turns=1,
    )


def brain_3d(split: Split) -> TrainingData:
    """Brain volumes 32 x 40 x 32 with tissue mask: one template, deformed."""
    from torchgenaug.datasets.brain_volumes import NUM_TISSUES, SHAPE, BrainVolumes

    real = BrainVolumes(split)
    return TrainingData(
        samples=TensorSamples({"image": real.images, "mask": real.masks}),
        fields={"image": FieldSpec((1, *SHAPE), value_range=_UNIT), "mask": mask_field(SHAPE, NUM_TISSUES)},
        ids=tuple(f"ICBM152 deformation {split} {index}" for index in range(len(real))),
        name="brain-3d",
        remarks=("One template, deformed: train and held-out brains differ by their deformation only.",),
        quarter_turns=1,
    )


def brain_t1_t2(split: Split, *, lesions: bool = False) -> TrainingData:
    """Simulated T1-weighted slices 64 x 64 as source, T2-weighted ones as image, with tissue mask."""
    from torchgenaug.datasets.brain_contrasts import BrainContrasts

    real = BrainContrasts(split, lesions=lesions)
    return TrainingData(
        **_translated(real, num_classes=5 if lesions else 4),
        ids=tuple(f"ICBM152 axial row {row} deformation {variant}" for row, variant in real.places),
        name="brain-t1-t2 with lesions" if lesions else "brain-t1-t2",
        remarks=("Both contrasts are simulated from tissue maps of one brain; slices are held out by place.",),
        quarter_turns=1,
    )


def nuclei(split: Split) -> TrainingData:
    """Tiles 64 x 64 of fluorescent nuclei with mask, and oblique light as source."""
    from torchgenaug.datasets.nuclei import NucleiTiles

    real = NucleiTiles(split)
    return TrainingData(
        **_translated(real, num_classes=2),
        ids=tuple(f"scratch-assay frame {frame} row {row} column {column}" for frame, row, column in real.places),
        name="nuclei",
        remarks=("One field of one dish over time: tiles are held out by place, not by dish.",),
    )


class _Samples(TypedDict):
    samples: TensorSamples
    fields: dict[str, FieldSpec]


def _translated(real: BrainContrasts | NucleiTiles, num_classes: int) -> _Samples:
    """Samples and fields of pairs of images 64 x 64 with a mask."""
    image = FieldSpec((1, 64, 64), value_range=_UNIT)
    return {
        "samples": TensorSamples({"image": real.images, "source": real.sources, "mask": real.masks}),
        "fields": {"image": image, "source": image, "mask": mask_field((64, 64), num_classes)},
    }


def resized(data: TrainingData, size: int | Sequence[int] | None) -> TrainingData:
    """The data at another spatial size, see `fit_image`; embedded sets keep theirs without one."""
    spatial = data.image_shape[1:]
    target = target_size(spatial, size) if size is not None else spatial
    if target == spatial:
        return data
    columns, fields = {}, {}
    for name, spec in data.fields.items():
        values = [data.samples[k][name] for k in range(len(data))]
        if spec.kind != "scalar":
            values = [
                fit_image(each, target) if spec.kind == "intensity" else fit_mask(each, target) for each in values
            ]
            spec = FieldSpec((spec.shape[0], *target), spec.dtype, kind=spec.kind, value_range=spec.value_range)
        columns[name], fields[name] = torch.stack(values), spec
    return replace(data, samples=TensorSamples(columns), fields=fields)


def class_field(num_classes: int) -> FieldSpec:
    """The field of a class label."""
    return FieldSpec((), torch.int64, kind="scalar", value_range=(0, num_classes - 1))


def mask_field(spatial: tuple[int, ...], num_classes: int) -> FieldSpec:
    """The field of a mask of `num_classes` classes, background included."""
    return FieldSpec((1, *spatial), torch.int64, kind="label_map", value_range=(0, num_classes - 1))


LOADERS: Mapping[str, Callable[[Split], TrainingData]] = {
    "digits": digits,
    "brain": brain,
    "brain-3d": brain_3d,
    "brain-t1-t2": brain_t1_t2,
    "nuclei": nuclei,
}
