"""Stripes of generated volumes: power at half the sampling frequency along each axis, compared with real ones."""

from __future__ import annotations

import torch
from torch import Tensor


def spectrum(volumes: Tensor, axis: int) -> Tensor:
    """Power along one axis, averaged over the other two and over the volumes, as shares: (frequencies,).

    Args:
        volumes: (count, 1, *spatial).
        axis: 2, 3 or 4.
    """
    power = torch.fft.rfft(volumes.double() - volumes.double().mean(axis, keepdim=True), dim=axis).abs().square()
    kept = power.mean([k for k in range(power.ndim) if k != axis])[1:]
    return kept / kept.sum()


def stripes(volumes: Tensor, real: Tensor) -> float:
    """The largest ratio, over the three axes, of the share of power in the upper half of the frequencies to real ones.

    1: as real volumes. Stripes of period two or four voxels along an axis raise it, blur lowers it.
    """
    ratios = []
    for axis in (2, 3, 4):
        shares = [spectrum(each, axis) for each in (volumes, real)]
        upper = [float(share[len(share) // 2 :].sum()) for share in shares]
        ratios.append(upper[0] / max(upper[1], 1e-12))
    return max(ratios)
