"""Structural measures: SSIM, MS-SSIM and VIF by torchmetrics, and the universal quality index.

References:
    Wang, Bovik (2002). A universal image quality index. IEEE Signal Process. Lett. 9(3), 81 (UQI).
    Wang, Bovik, Sheikh, Simoncelli (2004). Image quality assessment: from error visibility to structural similarity.
        IEEE Trans. Image Process. 13, 600 (SSIM).
    Wang, Simoncelli, Bovik (2003). Multiscale structural similarity for image quality assessment. Asilomar (MS-SSIM).
    Sheikh, Bovik (2006). Image information and visual quality. IEEE Trans. Image Process. 15, 430 (VIF).
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import missing_extra
from torchgenaug.metrics.features.contract import to_unit_range
from torchgenaug.metrics.pairs.measure import PairMeasure

_WINDOW = 11  # of SSIM, 1.5 pixels wide
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales of MS-SSIM, finest first
_BLOCK = 8  # window of UQI
_FLAT = 1e-10  # variance in [0, 1]² below which a window counts as constant: a thousandth of an 8 bit step


def structural_similarity(references: Tensor, images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """SSIM with a Gaussian window of 11 pixels, 2D and 3D: (batch,).

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """
    expected, actual = (to_unit_range(each, value_range) for each in (references, images))
    similarity: Tensor = _torchmetrics().structural_similarity_index_measure(
        actual, expected, data_range=1.0, reduction="none"
    )
    return similarity.reshape(-1)


def multiscale_structural_similarity(references: Tensor, images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """MS-SSIM of as many of the five scales as fit, 2D and 3D: (batch,).

    The published weights of the scales that fit (all from 176 pixels on) are divided by their sum. A negative contrast
    similarity counts as 0, since its power is not real.

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """
    expected, actual = (to_unit_range(each, value_range) for each in (references, images))
    weights = _WEIGHTS[: num_scales(min(expected.shape[2:]))]
    similarity: Tensor = _torchmetrics().multiscale_structural_similarity_index_measure(
        actual,
        expected,
        data_range=1.0,
        reduction="none",
        betas=tuple(weight / sum(weights) for weight in weights),
        normalize="relu",
    )
    return similarity.reshape(-1)


def num_scales(side: int) -> int:
    """Scales of MS-SSIM for images of this shortest side, at most 5; the second condition is torchmetrics' own."""
    return max(
        scales
        for scales in range(1, len(_WEIGHTS) + 1)
        if scales == 1 or min(side // 2 ** (scales - 1), side // (scales - 1) ** 2) >= _WINDOW
    )


def visual_information_fidelity(references: Tensor, images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """VIF in the pixel domain, 2D: (batch,); NaN for a constant reference. Above 1 for images of more contrast.

    The noise variance of its visual model, 2, is in grey levels of 8 bit, so intensities are scaled to [0, 255]: for
    noise of up to 10 % on 48² pixels it is 0.61 there, and 0.9995 in [0, 1].

    Raises:
        MissingExtraError: torchmetrics is not installed.
    """
    expected, actual = (255 * to_unit_range(each, value_range) for each in (references, images))
    function = _torchmetrics().visual_information_fidelity
    values = []
    for one, other in zip(expected, actual, strict=True):  # for a batch it gives the mean alone
        flat = one.flatten(1).var(1).min() / 255**2 < _FLAT
        values.append(torch.nan if flat else float(function(other[None], one[None])))
    return torch.tensor(values, dtype=torch.float64)


def universal_quality_index(references: Tensor, images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """UQI in windows of 8 pixels, 2D and 3D: (batch,) float64. As SSIM without its stabilising constants.

    Where both windows are constant it compares their means, as the authors' program does, and is 1 if they are both
    black; torchmetrics gives 0 for two equal constant images.
    """
    x, y = (to_unit_range(each.double(), value_range) for each in (references, images))
    pool: Any = nn.functional.avg_pool2d if x.ndim == 4 else nn.functional.avg_pool3d
    mean_x, mean_y, square_x, square_y, product = (pool(each, _BLOCK, stride=1) for each in (x, y, x * x, y * y, x * y))
    spread = square_x - mean_x**2 + square_y - mean_y**2
    brightness = mean_x**2 + mean_y**2
    structure = torch.where(spread > _FLAT, 2 * (product - mean_x * mean_y) / spread.clamp(min=_FLAT), 1.0)
    luminance = torch.where(brightness > _FLAT, 2 * mean_x * mean_y / brightness.clamp(min=_FLAT), 1.0)
    quality: Tensor = structure * luminance
    return quality.flatten(1).mean(1)


def _torchmetrics() -> Any:
    try:
        return importlib.import_module("torchmetrics.functional.image")
    except ImportError as error:
        raise missing_extra("A structural measure", package="torchmetrics", extra="metrics") from error


def _scales_caution(side: int) -> str | None:
    scales = num_scales(side)
    return None if scales == len(_WEIGHTS) else f"{scales} of {len(_WEIGHTS)} scales fit into {side} pixels"


SSIM = PairMeasure("SSIM", structural_similarity, "higher", (-1, 1), "Wang et al. 2004", smallest_side=_WINDOW)
MS_SSIM = PairMeasure(
    "MS-SSIM",
    multiscale_structural_similarity,
    "higher",
    (0, 1),
    "Wang et al. 2003",
    smallest_side=_WINDOW,
    caution=_scales_caution,
)
VIF = PairMeasure(
    "VIF",
    visual_information_fidelity,
    "higher",
    (0, math.inf),
    "Sheikh, Bovik 2006",
    smallest_side=41,
    volumes=False,
)
UQI = PairMeasure("UQI", universal_quality_index, "higher", (-1, 1), "Wang, Bovik 2002", smallest_side=_BLOCK)
