from __future__ import annotations

import pytest
import torch
from torchmetrics.functional import mean_absolute_error, mean_squared_error
from torchmetrics.functional.image import peak_signal_noise_ratio

from torchgenaug.metrics.pairs import differences


@pytest.mark.parametrize("shape", [(3, 2, 8, 9), (3, 1, 5, 6, 7)])
def test_each_image_agrees_with_torchmetrics(shape):
    generator = torch.Generator().manual_seed(0)
    true, made = torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)
    limits = (0.0, 2.0)
    for function, theirs in (
        (differences.mean_absolute_error, mean_absolute_error),
        (differences.mean_squared_error, mean_squared_error),
        (differences.peak_signal_to_noise_ratio, lambda a, b: peak_signal_noise_ratio(a, b, data_range=2.0)),
        (differences.normalized_mean_squared_error, lambda a, b: (a - b).norm() ** 2 / b.norm() ** 2),
    ):
        expected = torch.stack([theirs(made[k : k + 1], true[k : k + 1]) for k in range(3)])
        torch.testing.assert_close(function(true, made, limits).float(), expected, rtol=1e-4, atol=1e-6)
