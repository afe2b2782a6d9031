from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from torchgenaug.metrics import distances
from torchgenaug.metrics.sets.kernels import (
    EnergyKernel,
    GaussianKernel,
    PolynomialKernel,
    energy_distance,
    gaussian_mmd,
    kernel_inception_distance,
    median_distance,
    mmd,
)


def gaussian(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(x: np.ndarray, y: np.ndarray, kernel) -> float:
    xx = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    yy = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    return xx + yy - 2 * np.mean([kernel(a, b) for a in x for b in y])


KERNELS = [
    (PolynomialKernel(), lambda a, b: (a @ b / 4 + 1) ** 3),
    (
        GaussianKernel((0.5, 2.0)),
        lambda a, b: np.mean([math.exp(-np.sum((a - b) ** 2) / (2 * s * s)) for s in (0.5, 2.0)]),
    ),
    (EnergyKernel(), lambda a, b: -np.linalg.norm(a - b)),
]


@pytest.mark.parametrize(("kernel", "scalar"), KERNELS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("block", [5, 4096])
def test_agrees_with_loops(monkeypatch, kernel, scalar, block):
    monkeypatch.setattr(distances.row_blocks, "__defaults__", (block,))
    x, y = gaussian(13, 4), gaussian(9, 4, 1) + 0.5
    assert mmd(x, y, kernel) == pytest.approx(by_loops(x.numpy(), y.numpy(), scalar), rel=1e-6)


def test_kid_is_that_of_torchmetrics():
    x, y = gaussian(30, 6), gaussian(30, 6, 1) + 0.3
    centre = x.mean(0)
    theirs = poly_mmd(x, y)
    assert kernel_inception_distance(x, y) == pytest.approx(float(theirs), rel=1e-6)
    assert kernel_inception_distance(x - centre, y - centre) != pytest.approx(float(theirs), rel=1e-3)


def test_gaussian_kernel_in_closed_form():
    """For N(0, 1) and N(d, 1) with bandwidth 1: MMD² = 2 (1 − exp(−d²/6)) / √3."""
    values = [mmd(gaussian(500, 1, 2 * i), gaussian(500, 1, 2 * i + 1) + 1.5, GaussianKernel((1.0,))) for i in range(8)]
    assert np.mean(values) == pytest.approx(2 * (1 - math.exp(-(1.5**2) / 6)) / math.sqrt(3), abs=0.02)


def test_energy_distance_in_closed_form():
    """Two points against two points d apart: 2d − 0 − 0."""
    x = torch.zeros(2, 3)
    assert energy_distance(x, x + 1) == pytest.approx(2 * math.sqrt(3), rel=1e-5)


@pytest.mark.parametrize("measure", [kernel_inception_distance, gaussian_mmd, energy_distance])
def test_unbiased_for_equal_distributions_at_any_size(measure):
    values = [measure(gaussian(6, 10, 2 * i), gaussian(6, 10, 2 * i + 1)) for i in range(200)]
    assert abs(np.mean(values)) < 3.5 * np.std(values) / math.sqrt(200)
    assert min(values) < 0


def test_median_of_equal_rows_is_usable():
    assert median_distance(torch.ones(5, 2)) == 1.0
    assert gaussian_mmd(torch.ones(5, 2), torch.ones(5, 2)) == pytest.approx(0)
