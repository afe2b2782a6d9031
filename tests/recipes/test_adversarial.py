"""GANs and translators: they learn, are saved, go on where they were stopped, and refuse what they cannot do."""

from __future__ import annotations

import importlib

import pytest
import torch
from fit_helpers import blobs, tiny

from torchgenaug import load_synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import FitOptions, fit
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe, describe_family, family_view, given_fields
from torchgenaug.recipes.families import adversarial
from torchgenaug.recipes.report import HeldOutConditions
from torchgenaug.recipes.settings import checked_settings

pytest.importorskip("monai")

CASES = [
    ("dcgan", None, (16, 16)),
    ("dcgan", "label", (8, 16, 8)),
    ("wgan-gp", "label", (16, 16)),
    ("wgan-gp", None, (8, 8, 8)),
    ("acgan", "label", (16, 16)),
    ("pggan", None, (8, 16, 8)),
    ("stylegan2", "label", (16, 16)),
    ("introvae", "label", (16, 16)),
    ("two-stage-vae", None, (8, 16, 8)),
    ("pix2pix", "mask", (16, 16)),
    ("pix2pix", "source", (16, 16, 16)),
    ("spade", "mask", (16, 24)),
    ("spade", "mask", (8, 16, 16)),
    ("cyclegan", "source", (16, 16)),
    ("cyclegan", "source", (16, 16, 16)),
    ("cut", "source", (16, 16)),
    ("munit", "source", (16, 16)),
    ("unit", "source", (16, 16)),
    ("mm-gan", None, (16, 16)),
    ("countersynth", "label", (16, 16)),
    ("inpaint", "mask", (16, 16)),
    ("inpaint", None, (16, 16, 16)),
]
ONE_EACH = {case[0]: case for case in reversed(CASES)}.values()
RESUMED = [case for case in ONE_EACH if case[0] not in ("munit", "unit", "mm-gan", "countersynth", "inpaint")]
"""Those resume by what the others resume by: weights, averages, optimizers."""


SET = {  # with every network and buffer that a setting can add
    family: {"ada": True, "attention": True, "spectral": True, "smooth": True, "batch": "discrimination"}
    for family in ("dcgan", "wgan-gp", "acgan")
} | {family: {"ada": True} for family in ("pggan", "stylegan2", "spade", "cyclegan")}
SET["cyclegan"] = {"ada": True, "structure": 1.0}
SET["cut"] = {"structure": 1.0}
SET["pix2pix"] = {"ada": True, "perceptual": 1.0, "style": 10.0, "global_critic": True}


def run(out, family, condition, spatial, steps=3, settings=None, **options):
    data = blobs(spatial=spatial)
    recipe = tiny(condition=condition, steps=steps, width=4, latent_dim=4, settings=settings or {})
    loop = FitOptions(reports=1, **options)
    return fit(
        family, data, out, held_out=blobs(17, spatial), recipe=recipe, options=loop, device="cpu", progress=False
    )


@pytest.mark.filterwarnings("ignore:At step")
@pytest.mark.parametrize(("family", "condition", "spatial"), [case for case in CASES if case not in RESUMED])
def test_trained_saved_and_sampled(tmp_path, family, condition, spatial):
    made = run(tmp_path / "model", family, condition, spatial)
    assert made.finished
    check_saved(made, tmp_path / "model", family, condition, spatial)


def check_saved(made, folder, family, condition, spatial):
    loaded = load_synthesizer(folder)
    assert loaded.fingerprint == made.synthesizer.fingerprint
    held_out = family_view(family, blobs(17, spatial), tiny(condition=condition))
    asked = HeldOutConditions(held_out, given_fields(family, tiny(condition=condition)))([0, 1, 2])
    images, again = (each.synthesize([3, 4, 5], asked)["image"] for each in (made.synthesizer, loaded))
    assert torch.equal(images, again)
    assert images.shape == (3, *held_out.image_shape)
    assert images.min() >= 0
    assert images.max() <= 100
    rows = (folder / "training" / "losses.csv").read_text().splitlines()
    assert all(float("-inf") < float(value) < float("inf") for value in rows[-1].split(",") if value)


@pytest.mark.filterwarnings("ignore:At step")
@pytest.mark.parametrize(("family", "condition", "spatial"), RESUMED)
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, family, condition, spatial):
    whole = run(tmp_path / "whole", family, condition, spatial, steps=4, settings=SET.get(family, {}))
    # Two steps, a checkpoint, and the rest.
    loop = importlib.import_module("torchgenaug.recipes.loop").TrainingLoop
    monkeypatch.setattr(loop, "_late", lambda self: self.run.step == 2)
    assert run(tmp_path / "parts", family, condition, spatial, steps=4, settings=SET.get(family, {})).steps == 2
    monkeypatch.setattr(loop, "_late", lambda self: False)
    resumed = run(tmp_path / "parts", family, condition, spatial, steps=4, settings=SET.get(family, {}))
    assert resumed.steps == 4
    assert resumed.synthesizer.fingerprint == whole.synthesizer.fingerprint
    check_saved(resumed, tmp_path / "parts", family, condition, spatial)


@pytest.mark.parametrize(("family", "condition", "spatial"), ONE_EACH)
def test_every_network_learns(family, condition, spatial):
    torch.manual_seed(0)
    options = tiny(condition=condition, width=4, latent_dim=4)
    data = family_view(family, blobs(spatial=spatial), options)
    recipe = build_recipe(family, data, options)
    optimizers = recipe.optimizers()
    before = {name: [p.clone() for p in net.parameters()] for name, net in recipe.networks.items()}
    samples = [data.samples[k] for k in range(4)]
    batch = {name: torch.stack([each[name] for each in samples]) for name in data.fields}
    batch |= {name: batch[name] / 50 - 1 for name in ("image", "source")}

    def update(made):
        for name, loss in made.items():  # all gradients before the first step, as the loop does
            owned = [p for group in optimizers[name].param_groups for p in group["params"]]
            loss.backward(inputs=owned, retain_graph=True)
        for name in made:
            optimizers[name].step()
            optimizers[name].zero_grad()

    losses = recipe.train_step(batch, update, 0.0)
    assert all(value.isfinite() for value in losses.values())
    for name, net in recipe.networks.items():
        if not before[name]:
            continue  # adaptive augmentation, a running mean: buffers only
        assert any(not torch.equal(old, new) for old, new in zip(before[name], net.parameters(), strict=True))


@pytest.mark.parametrize("family", ["dcgan", "stylegan2"])
def test_the_penalty_of_r1_has_its_weight(family):
    """Weights of 1 and 2 give penalties of 1 and 2 times the same gradient; 0 gives none."""
    data, penalties = blobs(8), []
    for weight in (1.0, 2.0, 0.0):
        torch.manual_seed(0)
        settings = dict(checked_settings(family, describe_family(family).settings, {"r1": weight}))
        recipe = build_recipe(family, data, tiny(settings=settings))
        batch = next(training_batches(data, 4))
        penalties.append(recipe.train_step(batch, lambda losses: None, 0.0).get("penalty"))
    assert penalties[2] is None
    assert float(penalties[1].detach()) == pytest.approx(2 * float(penalties[0].detach()), rel=1e-4)
    assert penalties[0] > 0


def test_the_generator_of_wgan_gp_learns_in_every_third_step():
    recipe = build_recipe("wgan-gp", blobs(), tiny(steps=6, width=4))
    batch = {"image": torch.zeros(2, 1, 16, 16)}
    updated = []
    for step in range(6):
        recipe.train_step(batch, lambda made, step=step: updated.extend((name, step) for name in made), step / 6)
    assert [step for name, step in updated if name == "generator"] == [0, 3]
    assert [step for name, step in updated if name == "critic"] == list(range(6))


@pytest.mark.parametrize(
    ("family", "condition", "spatial", "message"),
    [
        ("acgan", None, (16, 16), r"`condition` must be one that acgan can take \(label\), got 'none'"),
        ("spade", "source", (16, 16), "`condition` must be one that spade can take"),
        ("cyclegan", "mask", (16, 16), "`condition` must be one that cyclegan can take"),
        ("pggan", "mask", (16, 16), "`condition` must be one that pggan can take"),
        ("stylegan2", None, (32, 36), "`shape` must hold sizes that can be halved 3 times"),
        ("dcgan", None, (32, 36), "`shape` must hold sizes that can be halved 3 times"),
        ("pix2pix", "mask", (4, 4), "`shape` must hold sizes that are at least 8"),
        ("spade", "mask", (32, 36), r"Pad or resize the images to \(32, 40\)"),
    ],
)
def test_what_cannot_work_is_refused(family, condition, spatial, message):
    with pytest.raises(ConfigurationError, match=message):
        build_recipe(family, blobs(spatial=spatial), tiny(condition=condition))


def test_a_vae_of_masks_needs_masks():
    data = blobs()
    del data.fields["mask"]
    with pytest.raises(ConfigurationError, match="The data must have 'mask' for two-stage-vae, got image, source"):
        build_recipe("two-stage-vae", data, tiny())


def test_gradients_pass_the_augmentation_and_masks_keep_their_brightness():
    torch.manual_seed(0)
    images = torch.zeros((64, 3, 16, 16), requires_grad=True)
    shown = adversarial.diff_augment(images, bright=1)
    shown.sum().backward()
    assert set(images.grad.unique().tolist()) == {0.0, 1.0}
    assert set(shown[:, 1:].unique().tolist()) == {-1.0, 0.0}
    assert shown[:, 0].unique().numel() > 60


def test_the_lipschitz_penalty_of_a_linear_critic_is_known():
    real, fake = torch.randn(2, 5, 1, 4, 4).unbind()
    assert adversarial.lipschitz_penalty(lambda x: x.flatten(1).sum(1) / 4, real, fake) < 1e-6
    assert abs(adversarial.lipschitz_penalty(lambda x: x.flatten(1).sum(1) * 0.75, real, fake).item() - 4) < 1e-4
    half = fake.bfloat16()  # as layers in half precision return images
    assert abs(adversarial.lipschitz_penalty(lambda x: x.flatten(1).sum(1) * 0.75, real, half).item() - 4) < 1e-4
    images = torch.randn(5, 1, 4, 4, requires_grad=True)
    assert torch.allclose(adversarial.squared_gradient(images.flatten(1).sum(1) * 2, images), torch.full((5,), 64.0))


def test_batch_norms_have_the_statistics_of_the_average():
    """Wrong running statistics do not reach the synthesizer."""
    recipe = build_recipe("dcgan", blobs(), tiny(width=4))
    made = recipe.synthesizer(recipe.networks).synthesize([1, 2])["image"]
    for layer in recipe.networks["generator"].modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean += 10
    assert torch.equal(recipe.synthesizer(recipe.networks).synthesize([1, 2])["image"], made)
