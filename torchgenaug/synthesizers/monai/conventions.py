"""`Conventions`: how a MONAI model was trained, as one value or as single keywords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torchgenaug.synthesizers.parts.options import DiffusionOptions
from torchgenaug.types import FieldSpec


@dataclass(frozen=True, slots=True)
class Conventions:
    """The keywords of `MonaiSynthesizer` that say what the numbers of a network stand for.

    Attributes:
        scale_factor: what latents were multiplied by.
        network_range: darkest and brightest value of images.
        null_class: class index that stands for "any class".
        mask_classes: classes of the condition ``mask``.
        source: spec of the condition ``source``.
        covariates: name → (low, high) of scalar conditions.
        label_channels: how many of the last channels are class scores.
    """

    scale_factor: float = 1.0
    network_range: tuple[float, float] = (-1.0, 1.0)
    null_class: int | None = None
    mask_classes: int | None = None
    source: FieldSpec | None = None
    covariates: Mapping[str, tuple[float, float]] | None = None
    label_channels: int = 0


class MonaiOptions(DiffusionOptions, total=False):
    """The attributes of `Conventions`, `DiffusionSampler` and `Compute` as keywords."""

    scale_factor: float
    network_range: tuple[float, float]
    null_class: int | None
    mask_classes: int | None
    source: FieldSpec | None
    covariates: Mapping[str, tuple[float, float]] | None
    label_channels: int
