"""Filters before halving and after doubling: what they keep, and which frequencies they take away."""

from __future__ import annotations

import pytest
import torch

from torchgenaug.nets import Critic, DCGANGenerator
from torchgenaug.nets.critic import Blur


def share_at_half_the_sampling_rate(images, axis):
    """Of the power along an axis, in units of what white noise has."""
    power = torch.fft.rfft(images - images.mean(axis, keepdim=True), dim=axis).abs().square()
    kept = power.movedim(axis, 0)[1:].flatten(1).mean(1)
    return float(kept[-1] / kept.mean())


@pytest.mark.parametrize("spatial", [(8, 16), (8, 16, 8)])
def test_a_constant_stays_and_a_pattern_of_period_two_goes(spatial):
    constant = torch.full((2, 3, *spatial), 0.7)
    assert torch.allclose(Blur()(constant), constant)
    for axis in range(2, 2 + len(spatial)):
        stripes = torch.ones(2, 3, *spatial).cumsum(axis) % 2
        inside = Blur()(stripes).narrow(axis, 1, spatial[axis - 2] - 2)
        assert torch.allclose(inside, torch.full_like(inside, 0.5))


def test_one_impulse_becomes_the_binomial_filter():
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[0, 0, 2, 2] = 16
    assert Blur()(impulse)[0, 0, 1:4, 1:4].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


def test_the_gradient_of_a_smooth_critic_has_no_pattern_of_period_two():
    torch.manual_seed(0)
    found = {}
    for smooth in (False, True):
        images = torch.randn(8, 1, 16, 16, 16, requires_grad=True)
        critic = Critic(shape=[1, 16, 16, 16], width=4, smooth=smooth)
        (gradient,) = torch.autograd.grad(critic(images)[0].sum(), images)
        found[smooth] = [share_at_half_the_sampling_rate(gradient, axis) for axis in (2, 3, 4)]
    assert min(found[False]) > 0.5
    assert max(found[True]) < 0.15


def test_a_smooth_generator_makes_images_of_the_same_shape():
    generator = DCGANGenerator(latent_dim=4, shape=[1, 16, 8, 8], width=4, smooth=True)
    assert generator(torch.randn(2, 4)).shape == (2, 1, 16, 8, 8)
