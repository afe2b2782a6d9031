"""Measures of image pairs over a set, with a bootstrap interval and the value of pairs that do not belong together."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, FieldMismatchError, SmallSampleWarning
from torchgenaug.metrics.features.contract import ImageSequence, image_batches
from torchgenaug.metrics.measurement import Measurement
from torchgenaug.metrics.pairs.measure import PairMeasure, summarize
from torchgenaug.metrics.resampling import numbered, strangers


def compare_pairs(
    references: ImageSequence,
    images: ImageSequence,
    measures: Sequence[PairMeasure],
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
    groups: Sequence[Hashable] | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, Measurement]:
    """Mean of each measure over pairs (reference k, image k).

    Args:
        references: (count, channels, *spatial), or anything with a length that gives (channels, *spatial) by index.
        images: the same, of the same shapes: what a model returned for each.
        measures: for example ``[MAE, PSNR, SSIM]``.
        value_range: intensities of both that mean black and white.
        groups: patient of each pair. Without it the slices of a patient count as independent.
        batch_size: pairs in memory at a time.
        seed: of the bootstrap and of the wrong pairs.

    Returns:
        Name → result. `ceiling` is the value of images against the reference of another patient: what a model that
        ignored its input would reach. `floor` is None: the best value is that of two equal images.

    Raises:
        FieldMismatchError: unequal counts or shapes, or images that a measure does not take.
        ConfigurationError: intensities outside `value_range`.

    Warns:
        SmallSampleWarning: a result has cautions.
    """
    if len(references) != len(images):
        raise FieldMismatchError(
            f"`images` must hold one image per reference, {len(references)}, got {len(images)}. Image k is "
            "compared with reference k. Use `compare_sets` for sets that are no pairs."
        )
    owners = torch.tensor(range(len(images)) if groups is None else numbered(groups))
    if len(owners) != len(images):
        raise ConfigurationError(f"`groups` must hold one value per pair, {len(images)}, got {len(owners)}.")
    right = _values(references, images, range(len(images)), measures, value_range, batch_size)
    partner = strangers(owners, seed=seed)
    wrong = (
        None if partner is None else _values(references, images, partner.tolist(), measures, value_range, batch_size)
    )
    side = min(torch.as_tensor(references[0]).shape[1:])
    results = {}
    for number, measure in enumerate(measures):
        result = summarize(
            measure,
            right[number],
            None if wrong is None else wrong[number],
            groups=None if groups is None else owners,
            seed=seed,
            undefined="the measure is undefined for them",
            caution=measure.caution(side) if measure.caution else None,
            sha256=measure.sha256,
        )
        results[measure.name] = result
        for text in result.cautions:
            warnings.warn(f"{result.name}: {text}.", SmallSampleWarning, stacklevel=2)
    return results


def _values(
    references: ImageSequence,
    images: ImageSequence,
    rows: Sequence[int],
    measures: Sequence[PairMeasure],
    value_range: tuple[float, float],
    batch_size: int,
) -> Tensor:
    """(measures, count) float64: of reference k against image ``rows[k]``."""
    columns = []
    batches = (
        image_batches(each, value_range=value_range, batch_size=batch_size, rows=which)
        for each, which in ((references, range(len(references))), (images, rows))
    )
    for (_, expected), (_, actual) in zip(*batches, strict=True):
        if expected.shape != actual.shape:
            raise FieldMismatchError(
                f"`images` must have the shape of their references, {tuple(expected.shape[1:])}, got "
                f"{tuple(actual.shape[1:])}. Resize them first, for example with torchio.Resize("
                f"{tuple(expected.shape[2:])})."
            )
        with torch.inference_mode():
            columns.append(torch.stack([_checked(measure, expected, actual, value_range) for measure in measures]))
    return torch.cat(columns, 1)


def _checked(measure: PairMeasure, expected: Tensor, actual: Tensor, value_range: tuple[float, float]) -> Tensor:
    spatial = tuple(expected.shape[2:])
    if len(spatial) == 3 and not measure.volumes:
        raise FieldMismatchError(
            f"{measure.name} is defined for 2D images, got volumes of {spatial}. Compare slices: "
            "volumes.movedim(2, 1).flatten(0, 1), with groups=[volume of each slice]."
        )
    if min(spatial) < measure.smallest_side:
        raise FieldMismatchError(
            f"{measure.name} needs at least {measure.smallest_side} pixels along every axis, got {spatial}. Its "
            "windows do not fit. Enlarge the images, compare slices along the short axis, or leave it out."
        )
    return measure.function(expected, actual, value_range).to("cpu", torch.float64)
