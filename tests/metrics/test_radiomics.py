from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.metrics import CoarseFeatures, RadiomicsFeatures
from torchgenaug.metrics.features.radiomics import FEATURE_NAMES
from torchgenaug.metrics.features.texture import cooccurrence, radial_log_power, texture
from torchgenaug.metrics.sets.degrade import blur


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def cooccurrence_by_loops(levels: np.ndarray, num_levels: int, distance: int) -> np.ndarray:
    counts = np.zeros((num_levels, num_levels))
    offsets = [each for each in itertools.product((-distance, 0, distance), repeat=levels.ndim) if any(each)]
    for place in np.ndindex(levels.shape):
        for offset in offsets:
            other = tuple(a + b for a, b in zip(place, offset, strict=True))
            if all(0 <= at < size for at, size in zip(other, levels.shape, strict=True)):
                counts[levels[place], levels[other]] += 1
    return counts / counts.sum()


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
@pytest.mark.parametrize("distance", [1, 3])
def test_cooccurrence_agrees_with_loops(shape, distance):
    levels = torch.randint(4, (2, *shape), generator=torch.Generator().manual_seed(1))
    found = cooccurrence(levels, 4, distance)
    for matrix, each in zip(found, levels, strict=True):
        np.testing.assert_allclose(matrix, cooccurrence_by_loops(each.numpy(), 4, distance))


def test_texture_in_closed_form():
    """A checkerboard along axes would mix directions: a matrix given outright has known features."""
    matrix = torch.tensor([[[0.0, 0.5], [0.5, 0.0]], [[0.25, 0.25], [0.25, 0.25]], [[1.0, 0.0], [0.0, 0.0]]]).double()
    expected = [[1, -1, 0.5, 0.5, 1], [0.5, 0, 0.75, 0.25, 2], [0, 1, 1, 1, 0]]
    np.testing.assert_allclose(texture(matrix), expected, atol=1e-12)


def test_first_order_agrees_with_scipy():
    batch = images(3, 1, 12, 12) ** 2
    found = RadiomicsFeatures()(batch)
    for vector, image in zip(found, batch, strict=True):
        named, values = dict(zip(FEATURE_NAMES, vector.tolist(), strict=True)), image.flatten().numpy()
        shares = np.histogram(values, 32, (0, 1))[0] / values.size
        assert named["mean"] == pytest.approx(values.mean(), rel=1e-4)
        assert named["standard deviation"] == pytest.approx(values.std(), rel=1e-4)
        assert named["skewness"] == pytest.approx(scipy.stats.skew(values), rel=1e-3)
        assert named["kurtosis"] == pytest.approx(scipy.stats.kurtosis(values, fisher=False), rel=1e-3)
        assert named["entropy"] == pytest.approx(scipy.stats.entropy(shares, base=2), rel=1e-4)
        assert named["percentile 50"] == pytest.approx(np.median(values), rel=0.05)


def test_spectrum_of_a_wave_is_in_its_ring():
    """Four cycles over 32 pixels are 1/8 cycle per pixel: the boundary of rings 2 and 3 of 8, so 5 cycles: ring 3."""
    wave = torch.cos(2 * torch.pi * 5 * torch.arange(32) / 32)[None, None, :].expand(1, 32, 32)
    bands = radial_log_power(wave, 8)[0]
    assert int(bands.argmax()) == 2


@pytest.mark.parametrize("spatial", [(16, 16), (8, 9, 10)])
def test_constant_images_have_finite_features(spatial):
    found = RadiomicsFeatures()(torch.full((2, 2, *spatial), 0.3))
    assert found.shape == (2, 2 * len(FEATURE_NAMES))
    assert found.isfinite().all()


@pytest.mark.parametrize("shape", [(4, 1, 24, 24), (2, 1, 12, 12, 12)])
def test_blur_noise_and_gain_each_change_them(shape):
    batch = blur(images(*shape), 0.7)
    features = RadiomicsFeatures()
    reference = features(batch)
    noisy = (batch + 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    for changed in (blur(batch, 1.0), noisy, batch * 0.8):
        assert ((features(changed) - reference).abs() / (reference.abs() + 1e-3)).amax(1).min() > 0.05


def test_one_by_one_equals_a_batch():
    batch = images(3, 1, 10, 11)
    features = RadiomicsFeatures()
    torch.testing.assert_close(torch.cat([features(each[None]) for each in batch]), features(batch))


def test_thin_images_are_refused():
    with pytest.raises(FieldMismatchError, match="at least 8 pixels"):
        RadiomicsFeatures()(images(2, 1, 16, 16, 1))


def test_coarse_features_are_those_of_averaged_images():
    features = CoarseFeatures(RadiomicsFeatures())
    images = torch.rand(3, 2, 64, 40, generator=torch.Generator().manual_seed(0))
    averaged = images.view(3, 2, 16, 4, 10, 4).mean((3, 5))
    assert torch.allclose(features(images), RadiomicsFeatures()(averaged), atol=1e-5)
    volumes = torch.rand(2, 1, 8, 16, 31)  # at least 8 voxels stay along each axis
    expected = torch.nn.functional.avg_pool3d(volumes, (1, 2, 3))
    assert torch.equal(features(volumes), RadiomicsFeatures()(expected))
    assert features.sha256 != CoarseFeatures(RadiomicsFeatures(), width=2).sha256 != RadiomicsFeatures().sha256
    with pytest.raises(ConfigurationError, match="`width` must be an integer of at least 2"):
        CoarseFeatures(RadiomicsFeatures(), width=1)
