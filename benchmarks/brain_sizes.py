"""Brain slices of two classes that differ in shape alone: small and large, by the area of the brain in the slice."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from torchgenaug.recipes import TrainingData, load_data
from torchgenaug.recipes.data.training_data import Split, TensorSamples
from torchgenaug.types import FieldSpec

_BRIGHT = 0.2  # above the noise, below the tissue


def brain_area(images: Tensor) -> Tensor:
    """Fraction of the pixels that are brain, of T2-weighted images (batch, 1, height, width): (batch,)."""
    return (images > _BRIGHT).flatten(1).float().mean(1)


def area_between() -> float:
    """The area that parts the classes: the median of the training images, at any size."""
    return float(brain_area(_images("train", None)).median())


def brain_sizes(split: Split, size: int | None = None) -> TrainingData:
    """Slices of `brain-t1-t2` with the label 1 where the brain is larger than the median, else 0."""
    data = load_data("brain-t1-t2", split=split, size=size)
    labels = (brain_area(_images(split, size)) > area_between()).long()
    label = FieldSpec((), torch.int64, kind="scalar", value_range=(0, 1))
    return dataclasses.replace(
        data,
        samples=TensorSamples({"image": _images(split, size), "label": labels}),
        fields={"image": data.fields["image"], "label": label},
        name="brain-sizes",
    )


def _images(split: Split, size: int | None) -> Tensor:
    data = load_data("brain-t1-t2", split=split, size=size)
    return torch.stack([data.samples[row]["image"] for row in range(len(data))])
