"""What a measure of image pairs is, and the summary of its values over a set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from torchgenaug.metrics.measurement import Better, Measurement
from torchgenaug.metrics.resampling import bootstrap_mean

_FEW = 10


@dataclass(frozen=True, slots=True)
class PairMeasure:
    """A measure of an image against its reference, as a value.

    Attributes:
        name: its usual abbreviation.
        function: (references, images, value range), both (batch, channels, *spatial) float32 in their own units →
            (batch,); NaN where it is undefined.
        better: direction.
        bounds: smallest and largest possible value.
        source: publication.
        smallest_side: shortest side, in pixels, of an image that it takes.
        volumes: whether it takes three spatial axes.
        caution: (shortest side) → what limits the number at this size, or None.
        sha256: fingerprint of its network, if it has one.
    """

    name: str
    function: Callable[[Tensor, Tensor, tuple[float, float]], Tensor]
    better: Better
    bounds: tuple[float, float]
    source: str
    smallest_side: int = 1
    volumes: bool = True
    caution: Callable[[int], str | None] | None = None
    sha256: str | None = None


class Described(Protocol):
    """What `PairMeasure` and `LabelMeasure` share: how their numbers are read."""

    @property
    def name(self) -> str:
        """Its usual abbreviation."""
        ...

    @property
    def better(self) -> Better:
        """Direction."""
        ...

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest possible value."""
        ...

    @property
    def source(self) -> str:
        """Publication."""
        ...


def summarize(
    measure: Described,
    values: Tensor,
    strangers: Tensor | None,
    *,
    groups: Tensor | None,
    seed: int,
    undefined: str,
    label: str | None = None,
    caution: str | None = None,
    sha256: str | None = None,
) -> Measurement:
    """The mean of one value per pair as a `Measurement`; missing values are left out and counted in its cautions.

    Args:
        measure: what was measured.
        values: (pairs,), NaN where undefined.
        strangers: values of pairs that do not belong together; None: unknown.
        groups: (pairs,) patients.
        seed: of the bootstrap.
        undefined: why a value may be missing, in words.
        label: class, for the name.
        caution: of the measure itself.
        sha256: fingerprint of a network.
    """
    mean, low, high = bootstrap_mean(values, groups, seed=seed)
    cautions = [caution] if caution else []
    missing = int(values.isnan().sum())
    if missing:
        cautions.append(f"{missing} of {len(values)} pairs left out: {undefined}")
    independent = len(values) - missing if groups is None else len(set(groups[~values.isnan()].tolist()))
    if independent < _FEW:
        cautions.append(f"{independent} independent pairs: the interval is too narrow")
    infinite = int(values.isinf().sum())
    if infinite:
        cautions.append(f"{infinite} pairs of infinite value decide the mean")
    ceiling = torch.nan if strangers is None else float(strangers[~strangers.isnan()].double().mean())
    return Measurement(
        name=measure.name if label is None else f"{measure.name}[{label}]",
        value=mean,
        low=low,
        high=high,
        floor=None,
        ceiling=None if math.isnan(ceiling) else ceiling,
        n=len(values) - missing,
        better=measure.better,
        bounds=measure.bounds,
        source=measure.source,
        sha256=sha256,
        cautions=tuple(cautions),
    )
