from __future__ import annotations

import pytest
import torch

from torchgenaug.nets.intensities import to_intensities


@pytest.mark.parametrize(("low", "high"), [(0.00484153, 999.975), (-1000.1, 3000.7), (0.1, 0.3), (1e-7, 1e7), (-1, 1)])
def test_the_ends_lie_in_the_range(low, high):
    low, high = (torch.tensor(each, dtype=torch.float32).item() for each in (low, high))
    made = to_intensities(torch.tensor([-1.0, 0.0, 1.0]), low, high)
    assert made[0] >= low
    assert made[2] <= high
    assert torch.allclose(made, torch.tensor([low, (low + high) / 2, high]), atol=1e-6 * (high - low))


def test_gradients_reach_the_ends():
    images = torch.tensor([-1.0, 0.5, 1.0], requires_grad=True)
    to_intensities(images, -1, 1).sum().backward()
    assert torch.equal(images.grad, torch.ones(3))
