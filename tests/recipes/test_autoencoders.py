from __future__ import annotations

import dataclasses

import pytest
import torch
from fit_helpers import blobs, tiny

from torchgenaug import ClassLabels, SyntheticSequence, load_synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import FitOptions, fit, list_families
from torchgenaug.recipes.batches import AUGMENTATION
from torchgenaug.recipes.build import build_recipe, describe_family

pytest.importorskip("pythae")

from torchgenaug.recipes.families import autoencoders

NAMES = list(autoencoders.FAMILIES)


@pytest.fixture(autouse=True)
def quick_prior(monkeypatch):
    monkeypatch.setattr(autoencoders, "_PRIOR_STEPS", 3)


def run(out, family, data, options):
    return fit(family, data, out, recipe=options, options=FitOptions(reports=1), device="cpu", progress=False)


def test_every_family_is_listed():
    assert set(NAMES) < set(list_families())
    for name in list_families():
        assert describe_family(name).summary


@pytest.mark.parametrize("family", NAMES)
def test_every_model_takes_a_step_and_samples(family):
    """One step changes the weights; the synthesizer of the networks makes finite images in range."""
    torch.manual_seed(0)
    data = blobs(spatial=(32, 32) if family == "msssim-vae" else (16, 16))
    condition = "label" if family == "cvae" else None
    recipe = build_recipe(family, data, tiny(condition=condition, latent_dim=4, steps=1))
    optimizers = recipe.optimizers()
    before = {name: [p.clone() for p in net.parameters()] for name, net in recipe.networks.items()}
    batch = {"image": torch.stack([data.samples[k]["image"] for k in range(8)]) / 50 - 1}
    batch["label"] = torch.arange(8) % 2
    batch[AUGMENTATION] = torch.linspace(-1, 1, 8)[:, None].expand(8, 5)
    moves = []
    if AUGMENTATION in recipe.networks:
        recipe.networks[AUGMENTATION].register_forward_hook(lambda module, inputs, made: moves.append((*inputs, made)))

    def update(made):
        for name, loss in made.items():
            optimizers[name].zero_grad()
            own = [p for group in optimizers[name].param_groups for p in group["params"]]
            loss.backward(inputs=own, retain_graph=True)
        for name in made:
            optimizers[name].step()

    losses = recipe.train_step(batch, update, 0.0)
    assert losses
    assert all(value.isfinite() for value in losses.values())
    for name, net in recipe.networks.items():
        assert not before[name] or any(
            not torch.equal(old, new) for old, new in zip(before[name], net.parameters(), strict=True)
        )
    assert bool(moves) == (family not in ("rae-gp", "factor-vae"))
    for images, numbers, moved_ in moves:  # what each image was decoded for is how it moves
        each = len(images) // len(numbers.unique(dim=0))
        assert len(numbers) == len(images)
        assert condition or torch.equal(numbers[::each], batch[AUGMENTATION])
        assert not torch.equal(moved_, images)
    conditions = ClassLabels(2) if condition else None
    made = SyntheticSequence(recipe.synthesizer(recipe.networks), conditions).batch([0, 1])["image"]
    assert made.shape[1:] == data.image_shape
    assert made.min() >= 0
    assert made.max() <= 100


def test_a_trained_volume_model_is_saved_and_sampled(tmp_path):
    spatial = (16, 16, 16)
    made = run(tmp_path / "model", "vae", blobs(spatial=spatial), tiny(steps=3, latent_dim=4)).synthesizer
    loaded = load_synthesizer(tmp_path / "model")
    assert loaded.fingerprint == made.fingerprint
    batch, again = (SyntheticSequence(each).batch([3, 4]) for each in (made, loaded))
    assert torch.equal(batch["image"], again["image"])
    assert batch["image"].shape == (2, 1, *spatial)


def test_a_class_model_makes_its_class(tmp_path):
    """Discs of class 1 are larger: the samples must be brighter by about as much."""
    data = blobs(40)
    options = tiny(steps=80, batch_size=16, latent_dim=4, learning_rate=5e-3, condition="label")
    synthesizer = run(tmp_path / "model", "cvae", data, options)
    made = SyntheticSequence(synthesizer.synthesizer, ClassLabels(2)).batch(list(range(16)))
    brightness = [made["image"][made["label"] == label].mean() for label in (0, 1)]
    labels = torch.from_numpy(data.labels())
    images = torch.stack([data.samples[k]["image"] for k in range(40)])
    real = [images[labels == label].mean() for label in (0, 1)]
    assert brightness[1] - brightness[0] == pytest.approx(real[1] - real[0], rel=0.5)


def test_what_must_be_told_is_told(tmp_path):
    made = run(tmp_path / "model", "cvae", blobs(), tiny(steps=1, latent_dim=4)).synthesizer
    assert made.num_classes == 2


def test_what_cannot_be(tmp_path):
    unlabelled = blobs()
    unlabelled = dataclasses.replace(unlabelled, fields={"image": unlabelled.fields["image"]})
    with pytest.raises(ConfigurationError, match="must have 'label' for cvae, got image"):
        run(tmp_path / "model", "cvae", unlabelled, tiny())
    with pytest.raises(ConfigurationError, match=r"at least 2 training images.*got fewer of \[1, 2\]"):
        run(tmp_path / "model", "cvae", blobs(10, classes=3).select([0, 1, 3, 4]), tiny(condition="label"))
    with pytest.raises(ConfigurationError, match="`batch_size` must be at least 2 for an autoencoder"):
        run(tmp_path / "model", "vae", blobs(), tiny(batch_size=1))
    with pytest.raises(ConfigurationError, match="must be a multiple of 4"):
        run(tmp_path / "model", "vae", blobs(), tiny(width=6))
