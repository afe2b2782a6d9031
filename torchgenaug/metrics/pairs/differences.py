"""Pixelwise differences: MAE, MSE, NMSE and PSNR.

All of them prefer a blurred image to a sharp one that is slightly displaced; see LPIPS for one that does not.

References:
    Wang, Bovik (2009). Mean squared error: love it or leave it? IEEE Signal Process. Mag. 26(1), 98.
    Zbontar et al. (2018). fastMRI. arXiv:1811.08839, section 5.2 (NMSE, PSNR).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchgenaug.metrics.pairs.measure import PairMeasure


def mean_absolute_error(references: Tensor, images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Mean absolute difference per image, in the images' unit (HU for CT): (batch,) float64."""
    return (images.double() - references.double()).abs().flatten(1).mean(1)


def mean_squared_error(references: Tensor, images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Mean squared difference per image, in the square of the images' unit: (batch,) float64."""
    return (images.double() - references.double()).square().flatten(1).mean(1)


def normalized_mean_squared_error(references: Tensor, images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """‖image − reference‖² / ‖reference‖² per image: (batch,) float64; NaN if the reference is 0 everywhere.

    It changes with an offset of the intensities: of −1000 HU for air much is divided by, of 0 little.
    """
    energy = references.double().square().flatten(1).mean(1)
    error = mean_squared_error(references, images, value_range)
    return torch.where(energy > 0, error / energy, torch.nan)


def peak_signal_to_noise_ratio(references: Tensor, images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """10 log₁₀(width of the value range² / MSE) per image, in dB: (batch,) float64; infinite for equal images."""
    peak = value_range[1] - value_range[0]
    return 10 * torch.log10(peak**2 / mean_squared_error(references, images, value_range))


MAE = PairMeasure("MAE", mean_absolute_error, "lower", (0, math.inf), "Wang, Bovik 2009")
MSE = PairMeasure("MSE", mean_squared_error, "lower", (0, math.inf), "Wang, Bovik 2009")
NMSE = PairMeasure("NMSE", normalized_mean_squared_error, "lower", (0, math.inf), "Zbontar et al. 2018")
PSNR = PairMeasure("PSNR", peak_signal_to_noise_ratio, "higher", (-math.inf, math.inf), "Zbontar et al. 2018")
