"""Measures on class probabilities: Inception Score and Mode Score.

References:
    Salimans et al. (2016). Improved techniques for training GANs. NeurIPS (IS).
    Barratt, Sharma (2018). A note on the Inception Score. arXiv:1801.01973 (why not to use it outside ImageNet).
    Che, Li, Jacob, Bengio, Li (2017). Mode regularized generative adversarial networks. ICLR (Mode Score).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.sets.measure import SetMeasure


def inception_score(probabilities: Tensor) -> float:
    """Exp of the mean KL(p(y|x) ‖ p(y)): high if images are recognised surely, and as many different things.

    Args:
        probabilities: (count, classes), each row sums to 1; in the original those of Inception v3.

    Raises:
        ConfigurationError: rows that are no probabilities.

    Example:
        >>> round(inception_score(torch.eye(10)), 6)
        10.0
    """
    return math.exp(_mean_divergence(check_shares(probabilities)))


def mode_score(real: Tensor, synthetic: Tensor) -> float:
    """Exp of (mean KL(p(y|x) ‖ p(y)) − KL(p(y) ‖ p(y*))), p(y*) being the real images' marginal.

    The Inception Score, lowered where the synthetic classes have other shares than the real ones. Infinitely so,
    hence 0, if a class has synthetic probability but no real one.

    Args:
        real: (count, classes) probabilities.
        synthetic: (others, classes) probabilities.

    Raises:
        ConfigurationError: rows that are no probabilities.
    """
    real, synthetic = check_shares(real), check_shares(synthetic)
    return math.exp(_mean_divergence(synthetic) - discrete_kl(synthetic.mean(0), real.mean(0)))


def discrete_kl(p: Tensor, q: Tensor) -> float:
    """KL(p ‖ q) = Σ p log(p / q) in nats; infinite where q is 0 and p is not."""
    return float((torch.xlogy(p, p) - torch.xlogy(p, q)).sum())


def check_shares(shares: Tensor) -> Tensor:
    """The same in float64 if each row is non-negative and sums to 1.

    Raises:
        ConfigurationError: it does not.
    """
    double = shares.double()
    if shares.ndim != 2 or not len(shares) or (double < 0).any() or (double.sum(1) - 1).abs().max() > 1e-3:
        raise ConfigurationError(
            f"This measure needs rows that are probabilities, got {tuple(shares.shape)} numbers whose rows do not all "
            "sum to 1. Use features that give probabilities, for example EfficientNetFeatures(output='probabilities'), "
            "or a classifier of your own that ends in a softmax."
        )
    return double


def _mean_divergence(probabilities: Tensor) -> float:
    marginal = probabilities.mean(0)
    return float((torch.xlogy(probabilities, probabilities) - torch.xlogy(probabilities, marginal)).sum(1).mean())


def _caution(count: int, width: int) -> str | None:
    if count >= 10 * width:
        return None
    return f"{count} images for {width} classes: the marginal is uncertain and the score biased downwards"


INCEPTION_SCORE = SetMeasure(
    "IS",
    lambda real, synthetic: inception_score(synthetic),
    "higher",
    (1, math.inf),
    "Salimans et al. 2016",
    caution=_caution,
)
MODE_SCORE = SetMeasure("Mode Score", mode_score, "higher", (0, math.inf), "Che et al. 2017", caution=_caution)
