"""Area under the ROC curve, of scores against labels."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError


def roc_auc(scores: Tensor, labels: Tensor) -> float:
    """Probability that a positive scores higher than a negative, ties counted as half.

    0.5 is chance, 1 perfect. Hanley, McNeil (1982), "The meaning and use of the area under a receiver operating
    characteristic curve", Radiology 143, 29.

    Args:
        scores: (count,) float, higher means rather positive.
        labels: (count,) bool, or 0 and 1.

    Raises:
        ConfigurationError: one class only, other labels, or scores that are not finite.

    Example:
        >>> roc_auc(torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([0, 0, 1, 1]))
        0.875
    """
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ConfigurationError(
            f"`scores` and `labels` must be (count,), got {tuple(scores.shape)} and {tuple(labels.shape)}."
        )
    if not scores.isfinite().all():
        raise ConfigurationError("`scores` must be finite, got NaN or infinity. They have no order.")
    positive = labels == 1
    if not (positive | (labels == 0)).all() or positive.all() or not positive.any():
        raise ConfigurationError(
            f"`labels` must hold both 0 and 1, got {sorted(set(labels.tolist()))}. With one class there is no AUC; for "
            "several classes compare each with the rest."
        )
    negatives = scores[~positive].double().sort().values
    wanted = scores[positive].double()
    below = torch.searchsorted(negatives, wanted)
    ties = torch.searchsorted(negatives, wanted, right=True) - below
    return float((below + ties / 2).double().mean() / len(negatives))
