"""What a measure of image pairs is, and the summary of its values over a set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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


def summarize(
    values: Tensor,
    *,
    name: str,
    better: Better,
    bounds: tuple[float, float],
    source: str,
    ceiling: Tensor | None,
    groups: Tensor | None,
    seed: int,
    undefined: str,
    cautions: tuple[str, ...] = (),
    sha256: str | None = None,
) -> Measurement:
    """The mean of one value per pair as a `Measurement`; missing values are left out and counted in its cautions.

    Args:
        values: (pairs,), NaN where undefined.
        name: of the measure.
        better: direction.
        bounds: smallest and largest possible value.
        source: publication.
        ceiling: values of pairs that do not belong together; None: unknown.
        groups: (pairs,) patients.
        seed: of the bootstrap.
        undefined: why a value may be missing, in words.
        cautions: further ones.
        sha256: fingerprint of a network.
    """
    mean, low, high = bootstrap_mean(values, groups, seed=seed)
    missing = int(values.isnan().sum())
    if missing:
        cautions += (f"{missing} of {len(values)} pairs left out: {undefined}",)
    independent = len(values) - missing if groups is None else len(set(groups[~values.isnan()].tolist()))
    if independent < _FEW:
        cautions += (f"{independent} independent pairs: the interval is too narrow",)
    infinite = int(values.isinf().sum())
    if infinite:
        cautions += (f"{infinite} pairs of infinite value decide the mean",)
    other = torch.nan if ceiling is None else float(ceiling[~ceiling.isnan()].double().mean())
    return Measurement(
        name=name,
        value=mean,
        low=low,
        high=high,
        floor=None,
        ceiling=None if math.isnan(other) else other,
        n=len(values) - missing,
        better=better,
        bounds=bounds,
        source=source,
        sha256=sha256,
        cautions=cautions,
    )
