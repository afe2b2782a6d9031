"""Whether each structure is as bright as it is in real images: medians within the classes of the masks.

References:
    NVIDIA (2025). NV-Generate-CTMR, quality check of generated volumes (median HU per organ). Here the limits are not
        given but measured on real images of the same data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.contracts import SyntheticSource

EXPECTED = 0.02
"""Share of real images outside of their own central 98 %."""

_FEWEST_PIXELS, _FEWEST_IMAGES = 8, 20
_MOST_CLASSES = 256


class LabelIntensity(NamedTuple):
    """Median intensities within one class of the masks.

    Attributes:
        label: number of the class.
        real: 1st percentile, median and 99th percentile over real images of the median intensity in an image.
        synthetic: the same over synthetic images.
        outside: share of synthetic images whose median lies outside of the first and last of `real`.
        images: how many synthetic images show the class.
    """

    label: int
    real: tuple[float, float, float]
    synthetic: tuple[float, float, float]
    outside: float
    images: int


def label_intensities(
    real: Any, real_rows: Sequence[int], synthetic: Any, synthetic_rows: Sequence[int], tolerance: float = 0.0
) -> tuple[LabelIntensity, ...]:
    """Compares the median intensity in each class of the masks; empty where either set has no masks.

    Args:
        real: real samples with ``image`` and ``mask``.
        real_rows: which of them to look at.
        synthetic: synthetic ones.
        synthetic_rows: which of them.
        tolerance: what nobody sees, in the unit of the images: air is exactly 0 in many real images.
    """
    ours, theirs = _medians(synthetic, synthetic_rows), _medians(real, real_rows)
    found = []
    for label in sorted(ours.keys() & theirs.keys()):
        if min(len(ours[label]), len(theirs[label])) < _FEWEST_IMAGES:
            continue
        low, middle, high = (float(each) for each in np.quantile(theirs[label], (0.01, 0.5, 0.99)))
        outside = float(((ours[label] < low - tolerance) | (ours[label] > high + tolerance)).mean())
        first, centre, last = (float(each) for each in np.quantile(ours[label], (0.01, 0.5, 0.99)))
        found.append(LabelIntensity(label, (low, middle, high), (first, centre, last), outside, len(ours[label])))
    return tuple(found)


def _medians(dataset: Any, rows: Sequence[int]) -> dict[int, npt.NDArray[np.float64]]:
    """Class → the median intensity in each image that shows it; empty where there are no masks."""
    found: dict[int, list[float]] = {}
    for row in rows:
        sample = sample_of(dataset, row)
        if sample is None:
            return {}
        image, mask = (torch.as_tensor(sample[name]) for name in ("image", "mask"))
        if mask.shape[1:] != image.shape[1:] or len(mask) != 1 or mask.dtype.is_floating_point:
            return {}
        values, classes = image.float().mean(0), mask[0]
        labels, counts = torch.unique(classes, return_counts=True)
        if len(labels) > _MOST_CLASSES:
            return {}
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
            if count >= _FEWEST_PIXELS:
                found.setdefault(label, []).append(float(values[classes == label].median()))
    return {label: np.array(medians, np.float64) for label, medians in found.items()}


def sample_of(dataset: Any, row: int, names: tuple[str, ...] = ("image", "mask")) -> Any:
    """Sample `row` as a mapping of tensors; None where it does not hold these fields."""
    if isinstance(dataset, SyntheticSource):
        if not set(names) <= set(dataset.fields):
            return None
        return {name: values[0] for name, values in dataset.read(np.array([row], np.int64)).items()}
    samples = getattr(dataset, "samples", dataset)  # TrainingData
    if isinstance(samples, torch.Tensor) or not hasattr(samples, "__getitem__"):
        return None
    sample = samples[row]
    known = isinstance(sample, dict) and all(isinstance(sample.get(name), (torch.Tensor, np.ndarray)) for name in names)
    return sample if known else None
