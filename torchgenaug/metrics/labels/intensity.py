"""Whether each label of mask-conditioned images has the intensities that it has in real ones.

References:
    Guo et al. (2025). MAISI: medical AI for synthetic imaging. WACV (a check of the median HU of each organ;
        published as NV-Generate).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.metrics.features.contract import ImageSequence
from torchgenaug.metrics.measurement import Measurement
from torchgenaug.metrics.sets.compare import compare_sets
from torchgenaug.metrics.sets.feature_sets import FeatureSets
from torchgenaug.metrics.sets.measure import SetMeasure

_CENTRAL = (0.025, 0.975)


def label_medians(images: ImageSequence, masks: ImageSequence, labels: Sequence[int]) -> Tensor:
    """Median intensity within each label of each image.

    Args:
        images: (count, 1, *spatial) in their own unit, or anything with a length that gives (1, *spatial) by index.
        masks: (count, 1, *spatial) integers.
        labels: which labels.

    Returns:
        (count, labels) float32; NaN where an image lacks the label.

    Raises:
        FieldMismatchError: unequal counts, or an image and its mask of other shapes.
    """
    if len(images) != len(masks):
        raise FieldMismatchError(f"`masks` must hold one mask per image, {len(images)}, got {len(masks)}.")
    medians = torch.full((len(images), len(labels)), torch.nan)
    for row in range(len(images)):
        image, mask = torch.as_tensor(images[row]), torch.as_tensor(masks[row])
        if image.shape != mask.shape:
            raise FieldMismatchError(
                f"`masks` must have the shape of their images, {tuple(image.shape)}, got {tuple(mask.shape)} at index "
                f"{row}. Of an image of several channels select one."
            )
        for column, label in enumerate(labels):
            inside = image[mask == label]
            if inside.numel():
                medians[row, column] = inside.float().median()
    return medians


def compare_label_intensities(
    real: Tensor, synthetic: Tensor, labels: Sequence[int], *, seed: int = 0
) -> dict[str, Measurement]:
    """Compares the medians of real and synthetic images, label by label.

    Args:
        real: (count, labels) medians of real images: `label_medians`.
        synthetic: (others, labels) medians of synthetic ones.
        labels: the labels of the columns.
        seed: decides the random halves.

    Returns:
        ``"intensity outliers[3]"``: share of synthetic images whose median of label 3 is outside the central 95 % of
        the real ones; about 0.05 (the floor) if all is well, 1 if the label always has the wrong intensity, 0 if it
        always has the same one. ``"intensity shift[3]"``: distance of the two medians of medians, in the images'
        unit. Images that lack a label are left out of it.

    Raises:
        ConfigurationError: as many columns as labels are needed.
        TooFewImagesError: fewer than 20 images that hold a label in a set.

    Warns:
        SmallSampleWarning: fewer than 80, which is too few to know the central 95 %.
    """
    if real.shape[1:] != (len(labels),) or synthetic.shape[1:] != (len(labels),):
        raise ConfigurationError(
            f"`real` and `synthetic` must be (count, {len(labels)}), one column per label, got {tuple(real.shape)} and "
            f"{tuple(synthetic.shape)}. Compute them with label_medians(images, masks, labels)."
        )
    results: dict[str, Measurement] = {}
    for column, label in enumerate(labels):
        present = [each[~each[:, column].isnan(), column, None] for each in (real, synthetic)]
        sets = FeatureSets(present[0], present[1], f"{label}")
        results |= compare_sets(sets, [INTENSITY_OUTLIERS, INTENSITY_SHIFT], seed=seed)
    return results


def _outliers(real: Tensor, synthetic: Tensor) -> float:
    low, high = real.double().quantile(torch.tensor(_CENTRAL, dtype=torch.float64))
    return float(((synthetic < low) | (synthetic > high)).double().mean())


def _shift(real: Tensor, synthetic: Tensor) -> float:
    return float((real.median() - synthetic.median()).abs())


def _caution(count: int, width: int) -> str | None:
    return f"the central 95 % of {count} real images are uncertain" if count < 40 else None


INTENSITY_OUTLIERS = SetMeasure(
    "intensity outliers", _outliers, "lower", (0, 1), "Guo et al. 2025", minimum=10, caution=_caution
)
INTENSITY_SHIFT = SetMeasure("intensity shift", _shift, "lower", (0, math.inf), "Guo et al. 2025", minimum=10)
