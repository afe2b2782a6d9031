from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from monai.metrics import MultiScaleSSIMMetric, SSIMMetric

from torchgenaug.errors import MissingExtraError
from torchgenaug.metrics.pairs.structure import (
    multiscale_structural_similarity,
    num_scales,
    structural_similarity,
    universal_quality_index,
    visual_information_fidelity,
)
from torchgenaug.metrics.sets.degrade import blur

UNIT = (0.0, 1.0)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_ssim_in_closed_form():
    """Constant images a and b: only the luminance term, (2ab + c₁) / (a² + b² + c₁), is left."""
    true, made = torch.full((2, 1, 16, 16), 0.4), torch.full((2, 1, 16, 16), 0.6)
    expected = (2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4)
    torch.testing.assert_close(structural_similarity(true, made, UNIT), torch.full((2,), expected), atol=1e-3, rtol=0)


@pytest.mark.parametrize("axes", [2, 3])
def test_ssim_is_near_that_of_monai(axes):
    true = blur(images(2, 1, *[24] * axes), 1.0)
    made = (true + 0.1 * images(2, 1, *[24] * axes, seed=1)).clamp(0, 1)
    theirs = SSIMMetric(spatial_dims=axes, data_range=1.0)(made, true).flatten()
    torch.testing.assert_close(structural_similarity(true, made, UNIT), theirs, atol=0.04, rtol=0)


def test_ssim_needs_no_unit_range():
    """HU with the right range give what [0, 1] gives; torchmetrics without `data_range` does not."""
    true, made = blur(images(2, 1, 24, 24), 1.0), images(2, 1, 24, 24, seed=1)
    in_hu = structural_similarity(true * 4000 - 1000, made * 4000 - 1000, (-1000.0, 3000.0))
    torch.testing.assert_close(in_hu, structural_similarity(true, made, UNIT), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("side", "scales"), [(11, 1), (21, 1), (22, 2), (64, 3), (99, 4), (175, 4), (176, 5), (500, 5)]
)
def test_scales_that_fit(side, scales):
    assert num_scales(side) == scales
    if side < 200:
        pair = images(1, 1, side, side), images(1, 1, side, side, seed=1)
        assert multiscale_structural_similarity(*pair, UNIT).isfinite().all()


def test_ms_ssim_of_one_scale_is_ssim():
    true, made = images(2, 1, 20, 20), images(2, 1, 20, 20) * 0.8
    torch.testing.assert_close(
        multiscale_structural_similarity(true, made, UNIT), structural_similarity(true, made, UNIT)
    )


def test_vif_of_itself_is_one_and_falls_with_blur_in_any_unit():
    true = blur(images(2, 1, 48, 48), 1.0)
    torch.testing.assert_close(visual_information_fidelity(true, true, UNIT), torch.ones(2).double(), atol=1e-4, rtol=0)
    once, twice = (visual_information_fidelity(true, blur(true, sigma), UNIT) for sigma in (0.8, 1.6))
    assert (twice < once).all()
    assert (once < 0.8).all()
    scaled = visual_information_fidelity(true * 3, blur(true, 0.8) * 3, (0.0, 3.0))
    torch.testing.assert_close(scaled, once, atol=1e-4, rtol=1e-3)


def test_vif_agrees_with_the_papers_formula():
    """Eq. 19 of Sheikh, Bovik (2006), as their program for the pixel domain computes it, with scipy's filters."""

    def means(image, window):
        return scipy.signal.convolve2d(image, window, mode="valid")

    true = blur(images(1, 1, 64, 64), 1.0)
    made = blur(true, 0.8) + 0.03 * images(1, 1, 64, 64, seed=1)
    x, y = (255 * each[0, 0].double().numpy() for each in (true, made))
    seen, there = 0.0, 0.0
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        along = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * (size / 5) ** 2))
        window = np.outer(along, along) / along.sum() ** 2
        if scale:
            x, y = means(x, window)[::2, ::2], means(y, window)[::2, ::2]
        spread_x = np.maximum(means(x * x, window) - means(x, window) ** 2, 0)
        spread_y = np.maximum(means(y * y, window) - means(y, window) ** 2, 0)
        shared = means(x * y, window) - means(x, window) * means(y, window)
        gain = np.maximum(shared / (spread_x + 1e-10), 0)
        noise = np.maximum(spread_y - gain * shared, 1e-10)
        seen += np.log10(1 + gain**2 * spread_x / (noise + 2)).sum()
        there += np.log10(1 + spread_x / 2).sum()
    assert float(visual_information_fidelity(true, made, UNIT)) == pytest.approx(seen / there, rel=2e-3)


def test_ms_ssim_is_near_that_of_monai():
    true = blur(images(2, 1, 64, 64), 1.0)
    made = (true + 0.1 * images(2, 1, 64, 64, seed=1)).clamp(0, 1)
    weights = [0.0448, 0.2856, 0.3001]
    theirs = MultiScaleSSIMMetric(spatial_dims=2, data_range=1.0, weights=[each / sum(weights) for each in weights])
    found = multiscale_structural_similarity(true, made, UNIT)
    torch.testing.assert_close(found, theirs(made, true).flatten(), atol=0.02, rtol=0)


def test_constant_images():
    flat = torch.full((1, 1, 48, 48), 0.5)
    assert visual_information_fidelity(flat, flat, UNIT).isnan().all()
    assert universal_quality_index(flat, flat, UNIT).tolist() == [1.0]
    assert universal_quality_index(flat * 0, flat * 0, UNIT).tolist() == [1.0]
    assert universal_quality_index(flat, flat / 2, UNIT).tolist() == pytest.approx([2 * 0.125 / (0.25 + 0.0625)])


@pytest.mark.parametrize("spatial", [(11, 10), (9, 10, 9)])
def test_uqi_agrees_with_the_papers_formula_window_by_window(spatial):
    true = images(1, 1, *spatial)
    made = 0.7 * true + 0.2 * images(1, 1, *spatial, seed=1)
    windows = [
        np.lib.stride_tricks.sliding_window_view(each[0, 0].double().numpy(), (8,) * len(spatial)).reshape(
            -1, 8 ** len(spatial)
        )
        for each in (true, made)
    ]
    quality = []
    for x, y in zip(*windows, strict=True):
        covariance = np.cov(x, y)
        quality.append(
            4 * covariance[0, 1] * x.mean() * y.mean() / (np.trace(covariance) * (x.mean() ** 2 + y.mean() ** 2))
        )
    assert float(universal_quality_index(true, made, UNIT)) == pytest.approx(np.mean(quality), rel=1e-6)


def test_a_missing_torchmetrics_names_its_extra(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(MissingExtraError, match=r"torchgenaug\[metrics\]"):
        structural_similarity(images(1, 1, 16, 16), images(1, 1, 16, 16), UNIT)
