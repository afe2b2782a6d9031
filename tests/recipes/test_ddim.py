"""Steps of DDIM, each sample at its own time: against the samplers that will walk them, and their inverse."""

from __future__ import annotations

import pytest
import torch

from torchgenaug.recipes.families.ddim import ddim_step, diffused, trailing_times, velocity_towards

ALPHAS = torch.linspace(0.9999, 1e-6, 1000)


def test_times():
    assert trailing_times(4, 1000).tolist() == [-1, 249, 499, 749, 999]
    assert trailing_times(1, 1000).tolist() == [-1, 999]
    assert trailing_times(16, 1000)[::2].tolist() == trailing_times(8, 1000).tolist()


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 2, 4, 4, 4)])
def test_a_step_and_the_velocity_that_it_needs(shape):
    draw = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(shape, generator=draw) for _ in range(2))
    time, end = torch.tensor([999, 749, 499, 249]), torch.tensor([-1, 499, -1, 7])
    noisy = diffused(clean, noise, ALPHAS, time)
    alpha = ALPHAS[time].view(-1, *[1] * (len(shape) - 1))
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    reached = ddim_step(noisy, velocity, ALPHAS, time, end)
    # The true velocity leads to the same image with less of the same noise.
    assert torch.allclose(reached[0], clean[0], atol=1e-5)
    assert torch.allclose(reached[3], diffused(clean, noise, ALPHAS, end.clamp(min=0))[3], atol=1e-5)
    assert torch.allclose(velocity_towards(noisy, reached, ALPHAS, time, end), velocity, atol=1e-4)
    goal = torch.randn(shape, generator=draw)
    there = ddim_step(noisy, velocity_towards(noisy, goal, ALPHAS, time, end), ALPHAS, time, end)
    assert torch.allclose(there, goal, atol=1e-4)
