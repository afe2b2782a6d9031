"""Dice and Jaccard of label maps, per image and class.

References:
    Dice (1945). Measures of the amount of ecologic association between species. Ecology 26, 297.
    Jaccard (1912). The distribution of the flora in the alpine zone. New Phytologist 11, 37.
    Maier-Hein et al. (2024). Metrics reloaded: recommendations for image analysis validation. Nature Methods 21, 195.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dice(references: Tensor, predictions: Tensor, classes: Sequence[int]) -> Tensor:
    """2 |A ∩ B| / (|A| + |B|): (batch, classes) float64 in [0, 1]; 0 if one has the class, NaN if neither has it.

    Args:
        references: (batch, *spatial) integer labels; a channel axis of length 1 does not matter.
        predictions: the same shape.
        classes: which labels.
    """
    both, either_sum = _sizes(references, predictions, classes)
    return 2 * both / either_sum  # 0 / 0 is NaN: the class is in neither


def jaccard(references: Tensor, predictions: Tensor, classes: Sequence[int]) -> Tensor:
    """|A ∩ B| / |A ∪ B|: (batch, classes) float64 in [0, 1]; absent classes as in `dice`."""
    both, either_sum = _sizes(references, predictions, classes)
    return both / (either_sum - both)


def _sizes(references: Tensor, predictions: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """|A ∩ B| and |A| + |B|, one class at a time: a map per class would take as many times the memory."""
    flat_a, flat_b = references.flatten(1), predictions.flatten(1)
    both, total = [], []
    for label in classes:
        a, b = flat_a == label, flat_b == label
        both.append((a & b).sum(1))
        total.append(a.sum(1) + b.sum(1))
    return torch.stack(both, 1).double(), torch.stack(total, 1).double()
