"""Calibrated decisions: conformal p-values, Benjamini-Hochberg, and a test of a whole set.

References:
    Vovk, Gammerman, Shafer (2005). Algorithmic Learning in a Random World (conformal p-values).
    Lee, Barber, Willett (2023). Distribution-free inference with hierarchical data. arXiv:2306.06342 (patients with
        several images: each patient counts once).
    Benjamini, Hochberg (1995). Controlling the false discovery rate. J. R. Statist. Soc. B 57, 289-300.
    Bates, Candès, Lei, Romano, Sesia (2023). Testing for outliers with conformal p-values. Ann. Statist. 51, 149-178
        (their false discovery rate is controlled although all p-values share one calibration set).
    Meehan, Chaudhuri, Dasgupta (2020). A non-parametric test to detect data-copying in generative models. AISTATS.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def conformal_p(statistic: Floats, calibration: Floats, weight: Floats) -> Floats:
    """p-values of statistics of which large ones are suspicious.

    ``p = (1 + Σ_patients share of its images with T ≥ t) / (patients + 1)``; a patient with one image makes it
    ``(1 + #{T ≥ t}) / (n + 1)``. Under exchangeability P(p ≤ a) ≤ a for every a.

    Args:
        statistic: (n,).
        calibration: (m,) statistics of real images that the model never saw.
        weight: (m,) 1 over the number of images of its patient; adds up to the number of patients.
    """
    order = np.argsort(calibration)
    # Weight of all calibration images from each rank upward.
    above = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
    at = np.searchsorted(calibration[order], statistic, side="left")
    p: Floats = (1 + above[at]) / (1 + weight.sum())
    return np.minimum(p, 1.0)


def benjamini_hochberg(p: Floats, rate: float) -> npt.NDArray[np.bool_]:
    """Which hypotheses are rejected so that at most a fraction `rate` of the rejected ones is expected to be false."""
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= rate * np.arange(1, len(p) + 1) / len(p))
    rejected = np.zeros(len(p), np.bool_)
    if len(passed):
        rejected[order[: passed[-1] + 1]] = True
    return rejected


def mann_whitney_z(synthetic: Floats, held_out: Floats) -> float:
    """Z_U of Meehan et al.: below about -3, synthetic images lie nearer to training images than held-out ones do.

    Args:
        synthetic: (n,) distances to the nearest training image.
        held_out: (m,) the same of held-out images.

    Returns:
        Standard normal for an honest model; 0 where one set is empty.
    """
    n, m = len(synthetic), len(held_out)
    if not n or not m:
        return 0.0
    every = np.concatenate([synthetic, held_out])
    _, place, count = np.unique(every, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    u = ranks[:n].sum() - n * (n + 1) / 2
    total = n + m
    ties = float((count.astype(float) ** 3 - count).sum())
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    return 0.0 if variance <= 0 else float((u - n * m / 2) / math.sqrt(variance))
