"""Segmentations against reference label maps, per class, each number with a bootstrap interval."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError, SmallSampleWarning
from torchgenaug.metrics.features.contract import ImageSequence
from torchgenaug.metrics.labels.hausdorff import hausdorff
from torchgenaug.metrics.labels.overlap import dice, jaccard
from torchgenaug.metrics.measurement import Better, Measurement
from torchgenaug.metrics.pairs.measure import summarize
from torchgenaug.metrics.resampling import numbered, strangers


@dataclass(frozen=True, slots=True)
class LabelMeasure:
    """A measure of a label map against its reference, as a value.

    Attributes:
        name: its usual abbreviation.
        function: (references, predictions, classes), both (batch, 1, *spatial) integers → (batch, classes), NaN where
            undefined.
        better: direction.
        bounds: smallest and largest possible value.
        source: publication.
    """

    name: str
    function: Callable[[Tensor, Tensor, Sequence[int]], Tensor]
    better: Better
    bounds: tuple[float, float]
    source: str


DICE = LabelMeasure("Dice", dice, "higher", (0, 1), "Dice 1945")
JACCARD = LabelMeasure("Jaccard", jaccard, "higher", (0, 1), "Jaccard 1912")


def hausdorff_measure(spacing_mm: Sequence[float] | None = None, percentile: float | None = None) -> LabelMeasure:
    """Hausdorff distance in mm (in pixels without a spacing), or a percentile of it, for `compare_labels`."""
    return LabelMeasure(
        "Hausdorff" if percentile is None else f"Hausdorff {percentile:g} %",
        functools.partial(hausdorff, spacing_mm=spacing_mm, percentile=percentile),
        "lower",
        (0, math.inf),
        "Huttenlocher et al. 1993",
    )


def compare_labels(
    references: ImageSequence,
    predictions: ImageSequence,
    classes: Sequence[int],
    measures: Sequence[LabelMeasure] = (DICE, JACCARD),
    *,
    groups: Sequence[Hashable] | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, Measurement]:
    """Measures per class over pairs (reference k, prediction k), and their mean over the classes of an image.

    Args:
        references: (count, 1, *spatial) integer labels, or anything with a length that gives (1, *spatial) by index.
        predictions: the same, of the same shapes.
        classes: labels to measure; leave the background out, it flatters the mean.
        measures: `DICE`, `JACCARD`, `hausdorff_measure()`.
        groups: patient of each pair. Without it the slices of a patient count as independent.
        batch_size: pairs in memory at a time.
        seed: of the bootstrap and of the wrong pairs.

    Returns:
        ``"Dice[3]"``, …, ``"Dice[mean]"`` → result. Images that lack a class in both maps are left out of its mean and
        counted in `cautions`. `ceiling` is the value against the reference of another patient.

    Raises:
        FieldMismatchError: unequal counts or shapes, or labels that are no integers.
        EmptyDatasetError: no pair.
        ConfigurationError: no class.

    Warns:
        SmallSampleWarning: a result has cautions other than absent classes.
    """
    if not classes or len(set(classes)) < len(classes):
        raise ConfigurationError(f"`classes` must be different labels, at least one, got {list(classes)}.")
    if len(references) != len(predictions):
        raise FieldMismatchError(
            f"`predictions` must hold one map per reference, {len(references)}, got {len(predictions)}."
        )
    if not len(references):
        raise EmptyDatasetError("`references` must hold at least one label map, got none.")
    owners = torch.tensor(range(len(references)) if groups is None else numbered(groups))
    if len(owners) != len(references):
        raise ConfigurationError(f"`groups` must hold one value per pair, {len(references)}, got {len(owners)}.")
    partner = strangers(owners, seed=seed)
    rows = range(len(references))
    right = _values(references, predictions, rows, classes, measures, batch_size)
    wrong = (
        None if partner is None else _values(references, predictions, partner.tolist(), classes, measures, batch_size)
    )
    results = {}
    for number, measure in enumerate(measures):
        for column, label in enumerate([*map(str, classes), "mean"]):
            results[f"{measure.name}[{label}]"] = summarize(
                measure,
                right[number][:, column],
                None if wrong is None else wrong[number][:, column],
                groups=None if groups is None else owners,
                seed=seed,
                undefined="the class is in neither map",
                label=label,
            )
    for result in results.values():
        for text in result.cautions:
            if "in neither map" not in text:
                warnings.warn(f"{result.name}: {text}.", SmallSampleWarning, stacklevel=2)
    return results


def _values(
    references: ImageSequence,
    predictions: ImageSequence,
    rows: Sequence[int],
    classes: Sequence[int],
    measures: Sequence[LabelMeasure],
    batch_size: int,
) -> list[Tensor]:
    """Per measure (count, classes + 1): of reference k against prediction ``rows[k]``, the last column the mean."""
    found: list[list[Tensor]] = [[] for _ in measures]
    for start in range(0, len(rows), batch_size):
        numbers = range(start, min(start + batch_size, len(rows)))
        expected = _stacked(references, list(numbers))
        actual = _stacked(predictions, [rows[number] for number in numbers])
        if expected.shape != actual.shape:
            raise FieldMismatchError(
                f"`predictions` must have the shape of their references, {tuple(expected.shape[1:])}, got "
                f"{tuple(actual.shape[1:])}."
            )
        for values, measure in zip(found, measures, strict=True):
            per_class = measure.function(expected, actual, classes)
            values.append(torch.cat([per_class, per_class.nanmean(1, keepdim=True)], 1))
    return [torch.cat(values) for values in found]


def _stacked(maps: ImageSequence, rows: list[int]) -> Tensor:
    batch = torch.stack([torch.as_tensor(maps[row]) for row in rows])
    if batch.is_floating_point() or batch.ndim not in (4, 5) or batch.shape[1] != 1:
        raise FieldMismatchError(
            f"Label maps must be (1, *spatial) integers with 2 or 3 spatial axes, got {tuple(batch.shape[1:])} of "
            f"{batch.dtype}. Take the class with the highest score, for example scores.argmax(1, keepdim=True)."
        )
    return batch
