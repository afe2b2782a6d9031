"""A denoiser that is given how its images were augmented makes images that are not augmented."""

from __future__ import annotations

import warnings

import pytest
import torch
from accelerate import Accelerator
from fit_helpers import blobs, tiny
from torch import nn

from torchgenaug import save_synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import FitOptions, fit, loop
from torchgenaug.recipes.augment import drawn_numbers, mild_affine
from torchgenaug.recipes.batches import AUGMENTATION, training_batches
from torchgenaug.recipes.build import build_recipe
from torchgenaug.recipes.families.augmented import MovedAlike
from torchgenaug.recipes.start import load_start
from torchgenaug.recipes.state import TrainingState

pytest.importorskip("monai")


def test_equal_numbers_are_equal_augmentations():
    data = blobs(4)
    batch = {"image": torch.stack([data.samples[k]["image"] for k in (0, 0)])}
    moved = mild_affine(batch, {"image": data.fields["image"]}, torch.tensor([3, 4]).numpy().astype("uint64"))
    drawn = drawn_numbers(torch.tensor([3, 4]).numpy().astype("uint64"), 2)
    assert drawn.shape == (2, 5)
    assert abs(drawn).max() <= 1
    assert (drawn[0] != drawn[1]).all()
    assert not torch.equal(moved["image"][0], moved["image"][1])
    assert AUGMENTATION in next(training_batches(data, 2, augment=True))
    assert AUGMENTATION not in next(training_batches(data, 2))


def test_half_of_the_images_are_left_as_they_are():
    """And the numbers say which: zeros, for the very image."""
    data = blobs(40)
    batch = next(training_batches(data, 40, augment=True, spare=0.5))
    plain, moved = (next(training_batches(data, 40, augment=each)) for each in (False, True))
    alone = ~batch[AUGMENTATION].any(1)
    assert 10 <= int(alone.sum()) <= 30
    for name in ("image", "mask", "source"):
        assert torch.equal(batch[name][alone], plain[name][alone])
        assert torch.equal(batch[name][~alone], moved[name][~alone])


@pytest.mark.parametrize("spatial", [(16, 16), (8, 8, 8)])
def test_the_network_that_samples_is_the_one_that_is_given_zeros(spatial):
    torch.manual_seed(0)
    recipe = build_recipe("ddpm", blobs(4, spatial), tiny())
    unet, embedding = recipe.networks["unet"].eval(), recipe.networks[AUGMENTATION]
    for weight in (*unet.parameters(), *embedding.parameters()):  # MONAI's last layer begins at zero
        torch.nn.init.normal_(weight, std=0.1)
    images, times = torch.randn(2, 1, *spatial), torch.tensor([3, 500])

    def called(drawn):
        with torch.no_grad(), embedding.given(unet, drawn):
            made = unet(images, times)
        return getattr(made, "sample", made)

    numbers = 1 + 2 * len(spatial)
    plain = called(None)
    assert torch.equal(called(torch.zeros(2, numbers)), plain)
    assert not torch.allclose(called(torch.ones(2, numbers)), plain)
    assert torch.equal(called(None), plain)


@pytest.mark.parametrize(
    ("family", "condition"),
    [("ddpm", "label"), ("ldm", None), ("score-sde", "label"), ("slices", None), ("ddgan", "label"), ("vqvae2", None)],
)
def test_it_is_learned_next_to_the_denoiser(family, condition):
    torch.manual_seed(0)
    data = blobs(8, (8, 8, 8) if family == "slices" else (16, 16))
    recipe = build_recipe(family, data, tiny(condition=condition))
    run = TrainingState(recipe, Accelerator(cpu=True), FitOptions())
    weight = recipe.networks[AUGMENTATION].linear.weight
    for augment in (False, True):
        batches = training_batches(data, 4, augment=augment)
        for _ in range(2):
            run.train_step(batches, 0.9)
        assert bool(weight.any()) == augment


def test_masks_and_sources_show_it_already():
    for condition in ("mask", "source"):
        for family in ("ddpm", "score-sde", "ddgan"):
            assert AUGMENTATION not in build_recipe(family, blobs(4), tiny(condition=condition)).networks


def test_runs_and_models_of_an_earlier_version(tmp_path):
    """A run without this layer cannot go on; its model can be trained further, without a warning."""
    recipe = build_recipe("ddpm", blobs(4), tiny())
    save_synthesizer(recipe.synthesizer(recipe.networks), tmp_path / "model")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_start(str(tmp_path / "model")).begin(build_recipe("ddpm", blobs(4), tiny()), blobs(4))
    assert not [each for each in caught if "begin untrained" in str(each.message)]
    run = TrainingState(recipe, Accelerator(cpu=True), FitOptions())
    recipe.networks = {"unet": recipe.networks["unet"]}
    run.save(tmp_path)
    again = TrainingState(build_recipe("ddpm", blobs(4), tiny()), Accelerator(cpu=True), FitOptions())
    with pytest.raises(ConfigurationError, match="of an earlier version"):
        again.resume(tmp_path)


@pytest.mark.parametrize("family", ["dcgan", "wgan-gp", "acgan", "pggan", "stylegan2"])
def test_a_critic_sees_generated_images_moved_as_the_real_ones(family):
    torch.manual_seed(0)
    data = blobs(8)
    condition = "label" if family == "acgan" else None
    recipe = build_recipe(family, data, tiny(condition=condition))
    batch = next(training_batches(data, 4, augment=True, spare=0.5))
    given, judged, sizes = [], [], []

    class Blank(nn.Module):
        def forward(self, images, drawn):
            given.append(drawn)
            sizes.append(tuple(images.shape[1:]))
            return 0 * images

    recipe.networks = {**recipe.networks, AUGMENTATION: Blank()}
    recipe._shown = lambda images: images
    recipe.networks["critic"].register_forward_pre_hook(lambda module, inputs: judged.append(inputs[0].detach()))
    recipe.train_step(batch, lambda losses: None, 0.0)
    assert torch.equal(given[0], batch[AUGMENTATION])
    assert sizes == [data.image_shape]  # of pggan, too, whose generator makes smaller ones at first
    blank = [not images.any() for images in judged]
    assert blank[-1]  # the generator's own
    assert sum(blank) >= 2
    assert not all(blank)


def test_moved_images_pass_gradients_and_those_that_are_not_moved_stay():
    images = torch.rand(2, 1, 8, 8, requires_grad=True)
    numbers = torch.tensor([[0.0] * 5, [0.5] * 5])
    made = MovedAlike()(images, numbers)
    assert torch.equal(made[0], images[0])
    assert not torch.equal(made[1], images[1])
    made[1].sum().backward()
    assert images.grad[1].abs().sum() > 0
    assert MovedAlike()(images, None) is images


def test_a_run_leaves_as_many_images_as_its_recipe_wants(tmp_path, monkeypatch):
    shares = []
    monkeypatch.setattr(loop, "training_batches", lambda *given, spare, **more: shares.append(spare) or iter(()))
    for family in ("ddpm", "dcgan", "ddgan"):
        with pytest.raises(StopIteration):
            fit(
                family,
                blobs(8),
                tmp_path / family,
                recipe=tiny(),
                options=FitOptions(reports=1),
                device="cpu",
                progress=False,
            )
    assert shares == [0.85, 0.5, 0.5]
