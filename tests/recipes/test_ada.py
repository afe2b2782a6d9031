"""Adaptive augmentation: nothing at p = 0, p follows the critic, masks keep their values, gradients pass."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fit_helpers import blobs, tiny

from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe, describe_family, family_view, resolve_condition
from torchgenaug.recipes.families.ada import AdaptiveAugment, shown
from torchgenaug.recipes.settings import checked_settings


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


def test_marks_behind_the_images_move_along():
    pair = torch.zeros(32, 3, 16, 16)
    pair[:, :, 4:12, 4:12] = 1
    networks = {"ada": augment(0.8)}
    torch.manual_seed(0)
    moved = networks["ada"](pair.roll(1, 1), first=1)
    torch.manual_seed(0)
    seen = shown(networks, pair, marks=1)
    assert torch.equal(seen[:, 2], moved[:, 0])
    assert torch.equal(seen[:, :2], moved[:, 1:])
    assert shown({}, pair, marks=1) is pair


@pytest.mark.parametrize(
    ("family", "critics"),
    [
        *(("cyclegan", 2), ("cut", 1), ("munit", 2), ("unit", 2), ("mm-gan", 1), ("inpaint", 2)),
        *(("countersynth", 1), ("ddgan", 1)),
    ],
)
def test_critics_are_shown_all_images_transformed_and_adapt_it(family, critics):
    torch.manual_seed(0)
    about, data = describe_family(family), blobs(8)
    settings = dict(checked_settings(family, about.settings, {"ada": True}))
    options = resolve_condition(family, data, tiny(width=4, latent_dim=4, settings=settings))
    data = family_view(family, data, options)
    recipe, calls = build_recipe(family, data, options), []
    recipe.networks["ada"].register_forward_hook(lambda module, given, made: calls.append(len(made)))
    optimizers = recipe.optimizers()
    recipe.train_step(next(training_batches(data, 4)), lambda losses: None, 0.0)
    assert len(calls) == 3 * critics  # real, generated, and generated for the generator
    assert recipe.networks["ada"].mean_sign != 0 or recipe.networks["ada"].probability != 0
    assert "ada" not in optimizers
    assert "ada" not in build_recipe(family, data, dataclasses.replace(options, settings={})).networks


def test_gradients_pass():
    torch.manual_seed(0)
    images = torch.zeros(4, 1, 16, 16, requires_grad=True)
    augment(0.8)(images).sum().backward()
    assert images.grad.abs().sum(dim=(1, 2, 3)).min() > 10
