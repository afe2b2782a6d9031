"""Losses of variational autoencoders with Gaussian latents."""

from __future__ import annotations

import torch
from torch import Tensor


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence to the standard normal, of each sample (batch,): Kingma and Welling (2014), appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def drawn(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Latents of the distribution, by torch's default generator; gradients pass."""
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def squared_error(images: Tensor, others: Tensor) -> Tensor:
    """Sum of squared differences of each sample (batch,), in units of the full range; images in [-1, 1]."""
    return ((images - others) / 2).square().flatten(1).sum(1)
