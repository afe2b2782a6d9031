"""Families whose sampler is a module of latents: they are trained, saved, loaded, taken up again, and refuse."""

from __future__ import annotations

import importlib

import pytest
import torch
from accelerate import Accelerator
from fit_helpers import blobs, tiny

from torchgenaug import SyntheticSequence, load_synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import FitOptions, fit, load_data
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe
from torchgenaug.recipes.report import HeldOutConditions
from torchgenaug.recipes.state import TrainingState

pytest.importorskip("monai")

CASES = [
    ("score-sde", (16, 16), {"condition": "label"}),
    ("score-sde", (8, 8, 8), {"condition": "source", "settings": {"equation": "ve", "corrector": False}}),
    ("ddgan", (16, 16), {"condition": "source"}),
    ("ddgan", (8, 8, 8), {"condition": "label"}),
    ("slices", (8, 16, 8), {"condition": "mask"}),
    ("slices", (8, 8, 4), {}),
    ("vqvae2", (16, 16), {"condition": "label"}),
    ("vqvae2", (8, 16, 8), {}),
]


def run(out, family, spatial, options, **loop):
    chosen = tiny(**{"steps": 2, "width": 4} | options)
    data = blobs(12, spatial)
    loop = FitOptions(reports=1, **loop)
    return fit(family, data, out, held_out=blobs(9, spatial), recipe=chosen, options=loop, device="cpu", progress=False)


@pytest.mark.filterwarnings("ignore:At step")
@pytest.mark.parametrize(("family", "spatial", "options"), CASES)
def test_trained_saved_and_sampled(tmp_path, monkeypatch, family, spatial, options):
    """The run is stopped after its first step and goes on from its checkpoint."""
    loop = importlib.import_module("torchgenaug.recipes.loop").TrainingLoop
    monkeypatch.setattr(loop, "_late", lambda self: self.run.step == 1)
    assert run(tmp_path / "model", family, spatial, options).steps == 1
    monkeypatch.setattr(loop, "_late", lambda self: False)
    made = run(tmp_path / "model", family, spatial, options).synthesizer
    loaded = load_synthesizer(tmp_path / "model")
    assert loaded.fingerprint == made.fingerprint
    conditions = HeldOutConditions(blobs(9, spatial), options.get("condition"))
    batch, again = (SyntheticSequence(each, conditions).batch([3, 4]) for each in (made, loaded))
    assert batch["image"].shape == (2, 1, *spatial)
    assert torch.equal(batch["image"], again["image"])
    alone = SyntheticSequence(loaded, conditions).batch([4])["image"]
    assert torch.allclose(alone, batch["image"][1:], atol=1e-2)


def test_the_codes_of_vqvae2_tell_real_images_apart():
    """With one code for everything, or an output that saturates, the error is that of the mean image, or worse."""
    torch.manual_seed(0)
    data = load_data("digits", size=16)
    options = tiny(condition="label", width=16, learning_rate=5e-3, settings={"codes": 64})
    recipe = build_recipe("vqvae2", data, options)
    run = TrainingState(recipe, Accelerator(cpu=True), FitOptions())
    batches = training_batches(data, 16, augment=False)
    for _ in range(180):
        run.train_step(batches, 0.1)
    images = torch.stack([data.samples[k]["image"] for k in range(0, len(data), 55)]) * 2 - 1
    autoencoder = recipe.networks["autoencoder"].eval()
    with torch.no_grad():
        rebuilt, _, (upper, lower) = autoencoder(images)
    assert (rebuilt - images).square().mean() < 0.85 * (images - images.mean(0)).square().mean()
    assert len(upper.unique()) > 8
    assert len(lower.unique()) > 8


def test_what_cannot_be():
    with pytest.raises(ConfigurationError, match="`sampling_steps` must be from 2 to 8 for ddgan, got 20"):
        build_recipe("ddgan", blobs(), tiny(sampling_steps=20))
    with pytest.raises(ConfigurationError, match=r"sizes that can be halved three times, got \(16, 20\).*--size 16,24"):
        build_recipe("vqvae2", blobs(spatial=(16, 20)), tiny())
    with pytest.raises(ConfigurationError, match="slices must have images of 3 dimensions"):
        build_recipe("slices", blobs(), tiny())
    with pytest.raises(ConfigurationError, match="`equation` must be one of vp, ve for score-sde"):
        build_recipe("score-sde", blobs(), tiny(settings={"equation": "sub-vp"}))


def test_brightness_and_contrast_of_the_slice_before_are_changed(monkeypatch):
    """Otherwise each slice is as bright as the one before it, and volumes drift."""
    torch.manual_seed(0)
    recipe = build_recipe("slices", blobs(4, (8, 8, 8)), tiny(settings={"slices_per_volume": 64}))
    seen = []

    def velocity(noisy, time, before, place, condition):
        seen.append(before)
        return noisy.requires_grad_()

    monkeypatch.setattr(recipe.networks["sampler"], "velocity", velocity)
    recipe.train_step({"image": torch.zeros(2, 1, 8, 8, 8)}, lambda losses: None, 0.0)
    brightness = seen[0].mean((1, 2, 3))  # of noise alone they would spread by 0.015
    assert brightness.std() > 0.1
    assert brightness.abs().max() < 0.7


@pytest.mark.parametrize("equation", ["vp", "ve"])
def test_score_sde_learns_what_noise_does_not_magnify(equation):
    """A network that has learnt nothing takes noise for an image of the size of noise; by its noise, for one of 150."""
    torch.manual_seed(0)
    sampler = build_recipe("score-sde", blobs(), tiny(settings={"equation": equation})).networks["sampler"]
    time, noise = torch.ones(4), torch.randn(4, *sampler.latent_shape[1:])
    with torch.no_grad():
        clean = sampler._clean(noise * sampler.level(time, 4)[1], time, None)
    assert clean.abs().mean() < 2


def test_both_priors_of_vqvae2_are_given_the_class():
    """Four codes of a small image do not hold all of its class: the codes below must know it, too."""
    torch.manual_seed(0)
    recipe = build_recipe("vqvae2", blobs(12), tiny(condition="label", settings={"codes": 8}))
    codes = torch.zeros((1, 2, 2), dtype=torch.int64), torch.zeros((1, 4, 4), dtype=torch.int64)
    maps = recipe.networks["autoencoder"].maps(codes[0])
    for name, given in (("upper_prior", (codes[0], None)), ("lower_prior", (codes[1], maps))):
        one, other = (recipe.networks[name](*given, torch.tensor([k])) for k in (0, 1))
        assert not torch.equal(one, other)
