"""Adaptive augmentation: nothing at p = 0, p follows the critic, masks keep their values, gradients pass."""

from __future__ import annotations

import pytest
import torch

from torchgenaug.recipes.families.ada import AdaptiveAugment


def augment(probability, ramp=10):
    made = AdaptiveAugment(ramp)
    made.probability.fill_(probability)
    return made


@pytest.mark.parametrize("spatial", [(12, 16), (8, 12, 16)])
def test_nothing_changes_at_first_and_every_image_later(spatial):
    torch.manual_seed(0)
    images = torch.rand(6, 2, *spatial) * 2 - 1
    assert (augment(0)(images) - images).abs().max() < 1e-5
    moved = augment(1)(images)
    assert moved.shape == images.shape
    assert ((moved - images).abs().flatten(1).mean(1) > 0.05).all()


def test_whole_shifts_move_pixels_without_mixing_them():
    torch.manual_seed(0)
    images = torch.rand(200, 1, 16, 16)
    shown = augment(0.1)(images)
    whole = [
        each
        for each, old in zip(shown, images, strict=True)
        if torch.isin(each.round(decimals=4), old.round(decimals=4)).all()
    ]
    assert 60 < len(whole) < 200


def test_probability_rises_with_a_critic_that_knows_the_images_and_falls_again():
    made = augment(0.0, ramp=10)
    for _ in range(6):
        made.observe(torch.full((8,), 3.0))
    assert 0.1 < made.probability <= 0.6
    for _ in range(20):
        made.observe(torch.tensor([3.0, -3.0]))
    assert made.probability == 0
    for _ in range(50):
        made.observe(torch.ones(4))
    assert made.probability == pytest.approx(0.8)
    for _ in range(20):
        made.observe(torch.ones(4), middle=1.5)
    assert made.probability == 0


def test_channels_before_the_first_move_along_and_keep_their_values():
    torch.manual_seed(0)
    pair = torch.zeros(32, 2, 16, 16)
    pair[:, :, 4:12, 4:12] = 1
    moved = augment(0.9)(pair, first=1)
    assert moved[:, 0].min() >= 0
    assert moved[:, 0].max() <= 1
    flat = moved - moved.flatten(2).min(2).values[:, :, None, None]
    flat = flat / flat.flatten(2).max(2).values[:, :, None, None]
    assert (flat[:, 0] - flat[:, 1]).abs().max() < 1e-4


def test_gradients_pass():
    torch.manual_seed(0)
    images = torch.zeros(4, 1, 16, 16, requires_grad=True)
    augment(0.8)(images).sum().backward()
    assert images.grad.abs().sum(dim=(1, 2, 3)).min() > 10
