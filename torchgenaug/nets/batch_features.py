"""How an image differs from the others of its batch, as features of a critic: against generators of few images.

References:
    Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen (2016), "Improved techniques for training GANs", section 3.2
    (minibatch discrimination).
    Karras, Aila, Laine, Lehtinen (2018), "Progressive growing of GANs", section 3 (minibatch standard deviation).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_KERNELS, _KERNEL_SIZE = 16, 8
_LEAST_VARIANCE = 1e-8  # as Karras (2018); the root of 0 has no derivative


def batch_spread(features: Tensor) -> Tensor:
    """Features (batch, channels, *spatial) with one more channel: the mean standard deviation over the batch.

    It has second derivatives, which R1 takes, also where a feature is the same in all images (an empty background, a
    batch of one).
    """
    variance = features.float().var(0, correction=0)
    spread = (variance + _LEAST_VARIANCE).sqrt().mean().expand(len(features), 1, *features.shape[2:])
    return torch.cat([features, spread.to(features.dtype)], 1)


class BatchDiscrimination(nn.Module):
    """Features (batch, length) → (batch, length + 16): the last sixteen say how near the others of the batch are.

    With M_i = features_i · T in 16 rows of 8, they are o_b = mean over j ≠ i of exp(-|M_ib - M_jb|₁), Salimans (2016),
    section 3.2, as a mean in place of a sum: another batch size has the same scale.

    Args:
        length: of the features.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length + _KERNELS
        self.project = nn.Linear(length, _KERNELS * _KERNEL_SIZE, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        rows = self.project(features).unflatten(1, (_KERNELS, _KERNEL_SIZE))
        nearness = (-(rows[:, None] - rows[None]).abs().sum(3)).exp()  # (batch, batch, kernels)
        others = (nearness.sum(1) - 1) / max(1, len(rows) - 1)
        return torch.cat([features, others], 1)
