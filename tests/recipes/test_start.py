from __future__ import annotations

import shutil
import warnings

import pytest
import torch
from fit_helpers import blobs, tiny

from torchgenaug import load_synthesizer, save_synthesizer
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.recipes import FitOptions, Options, checkpoint, fit
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe, describe_family, family_view, resolve_condition
from torchgenaug.recipes.families import pggan
from torchgenaug.recipes.settings import checked_settings
from torchgenaug.recipes.start import Start, load_start

LOOP = FitOptions(reports=1)


def run(out, family, data, **options):
    return fit(family, data, out, recipe=tiny(**{"steps": 1} | options), options=LOOP, device="cpu", progress=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A ddpm with classes, width 8."""
    folder = tmp_path_factory.mktemp("start") / "ddpm"
    run(folder, "ddpm", blobs(), condition="label")
    return folder


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "gan"
    run(folder, "dcgan", blobs())
    return folder


def started(family, folder, data, **options):
    options = resolve_condition(family, data, tiny(**{"width": None} | options, start=str(folder)))
    return build_recipe(family, data, options), options


def test_training_begins_with_what_was_sampled_and_takes_its_options(trained):
    """Condition and width are those of the start, though nobody gives them."""
    recipe, options = started("ddpm", trained, blobs(12))
    assert (options.condition, options.width) == ("label", 8)
    for name, weight in load_synthesizer(trained).unet.state_dict().items():
        assert torch.equal(weight, recipe.networks["unet"].state_dict()[name])


def test_steps_that_decide_networks_are_those_of_the_start():
    start = Start("folder", None, {"family": "ddgan", "sampling_steps": 2})
    assert start.options(Options()).sampling_steps == 2
    assert start.options(Options(sampling_steps=3)).sampling_steps == 3


def test_a_grown_start_does_not_grow_again():
    growths = []
    for started_from in (None, frozenset()):
        recipe = pggan.build("pggan", blobs(8), tiny(width=4, settings={"ada": False}))
        if started_from is not None:
            recipe.go_on(started_from)
        recipe.train_step(next(training_batches(blobs(8), 4)), lambda losses: None, 0.0)
        growths.append(float(recipe.networks["generator"].growth))
    assert growths == [0, recipe.networks["generator"].levels]


def test_a_trained_introvae_is_no_plain_vae_again_unless_its_encoder_is_missing(tmp_path):
    data = blobs(12)
    run(tmp_path / "model", "introvae", data, width=4, latent_dim=4)
    shutil.copytree(tmp_path / "model", tmp_path / "alone", ignore=shutil.ignore_patterns("training"))
    whole, _ = started("introvae", tmp_path / "model", data)
    with pytest.warns(UserWarning, match="no weights for encoder"):
        alone, _ = started("introvae", tmp_path / "alone", data, width=4, latent_dim=4)
    (batch,) = (next(training_batches(data, 4)),)
    for recipe, plain in ((whole, False), (alone, True)):
        losses = recipe.train_step(batch, lambda losses: None, 0.0)
        assert bool(losses["encoder"] == losses["decoder"]) == plain


def test_a_trained_autoencoder_does_not_warm_up_again(monkeypatch):
    """With the capacity of the first epoch, a disentangled beta-VAE would unlearn its code."""
    pytest.importorskip("pythae")
    data, epochs = blobs(8), []
    settings = describe_family("disentangled-beta-vae").settings
    recipe = build_recipe(
        "disentangled-beta-vae", data, tiny(latent_dim=2, settings=checked_settings("", settings, {}))
    )
    network, losses = recipe.networks["model"], recipe.networks["model"].losses
    monkeypatch.setattr(network, "losses", lambda *args, epoch, **more: epochs.append(epoch) or losses(*args, **more))
    for _ in range(2):
        recipe.train_step(next(training_batches(data, 4)), lambda losses: None, 0.0)
        recipe.go_on(frozenset())
    assert epochs[0] == 1
    assert epochs[1] > network.model.warmup_epoch


@pytest.mark.parametrize("family", ["cyclegan", "munit", "unit", "vqvae2"])
def test_what_is_sampled_is_found_without_the_training(tmp_path, family):
    """One of several equal networks, or several that are saved as one; the folder of the training tells them apart."""
    data, chosen = blobs(12), {"width": 4, "latent_dim": 4}
    fresh = {"settings": dict(checked_settings(family, describe_family(family).settings, {}))}
    condition = None if family == "vqvae2" else "source"
    old = build_recipe(family, data, tiny(condition=condition, **chosen, **fresh))
    save_synthesizer(old.synthesizer(old.networks), tmp_path / "model")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new, _ = started(family, tmp_path / "model", data, condition=condition, **chosen)
    kept = ["autoencoder", "upper_prior", "lower_prior"] if family == "vqvae2" else ["to_image"]
    for name in kept:
        for mine, its in zip(new.networks[name].parameters(), old.networks[name].parameters(), strict=True):
            assert torch.equal(mine, its)
    warned = ["Copy the model with its folder training/" in str(each.message) for each in caught]
    assert warned == ([] if family == "vqvae2" else [True])
    with pytest.raises(ConfigurationError, match=r"there, .* here\. Copy the model with its folder training/, which"):
        started(family, tmp_path / "model", data, condition=condition, **chosen | {"width": 8})


@pytest.mark.parametrize("family", ["two-stage-vae", "inpaint-ddpm", "mm-ddpm"])
def test_models_that_join_several_are_trained_further(tmp_path, family):
    data = blobs(8)
    about = describe_family(family)
    options = tiny(
        with_mask=family == "two-stage-vae", latent_dim=4, settings=dict(checked_settings(family, about.settings, {}))
    )
    recipe = build_recipe(family, family_view(family, data, options), options)
    save_synthesizer(recipe.synthesizer(recipe.networks), tmp_path / "model")
    with pytest.raises(
        ConfigurationError, match=r"copy that folder, too\. If not, train one of its parts further: "
    ) as refused:
        load_start(str(tmp_path / "model"))  # who trained it, nobody knows
    assert load_start(str(refused.value).rpartition(": ")[2]).synthesizer.stored().networks
    checkpoint.begin(tmp_path / "model" / "training", {"family": family, "width": 8, "latent_dim": 4})
    options = resolve_condition(family, data, Options(start=str(tmp_path / "model"), with_mask=options.with_mask))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no checkpoint: encoders and critics begin untrained
        again = build_recipe(family, family_view(family, data, options), options)
    for name in recipe.averaged:
        for old, new in zip(recipe.networks[name].parameters(), again.networks[name].parameters(), strict=True):
            assert torch.equal(old, new)


def test_critics_begin_with_the_checkpoint(gan):
    recipe, _ = started("dcgan", gan, blobs(12))
    kept = checkpoint.load(gan / "training", torch.device("cpu"))
    for name in ("critic", "generator"):
        wanted = (kept["averages"] if name in kept["averages"] else kept["networks"])[name]
        for key, value in recipe.networks[name].named_parameters():
            assert torch.equal(value, wanted[key])


def test_a_model_without_its_training_leaves_critics_untrained_and_says_so(tmp_path, gan):
    shutil.copytree(gan, tmp_path / "gan", ignore=shutil.ignore_patterns("training"))
    with pytest.warns(UserWarning, match="no weights for critic, which begin untrained"):
        started("dcgan", tmp_path / "gan", blobs(12), width=8)


def test_it_says_what_the_start_saw_and_another_start_is_another_run(tmp_path, trained):
    few = blobs().select(range(10))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = run(tmp_path / "few", "ddpm", few, start=str(trained)).synthesizer
    assert "The model that training starts from was trained on 1 of the 1 held-out" in " ".join(map(str, caught))
    before = load_synthesizer(trained)
    assert set(before.trained_on["samples"]) <= set(made.trained_on["samples"])
    assert made.trained_on["start"] == {"fingerprint": before.fingerprint, "data": "blobs"}
    assert load_synthesizer(tmp_path / "few").trained_on == made.trained_on
    with pytest.raises(ConfigurationError, match=r"start_fingerprint: '\w+' there, None now"):
        run(tmp_path / "few", "ddpm", few, condition="label")
    with pytest.raises(ConfigurationError, match="`out` must be another folder than that of the start"):
        run(trained, "ddpm", few, start=str(trained))


def test_what_does_not_fit_is_named(tmp_path, trained, gan):
    with pytest.raises(
        ConfigurationError, match=r"`start` must be a model of the family dcgan, got one of ddpm"
    ) as refused:
        started("dcgan", trained, blobs())
    advised = str(refused.value).rpartition("torchgenaug fit ")[2].split()
    assert started(advised[0], advised[-1], blobs())
    checkpoint.begin(tmp_path / "distilled" / "training", {"family": "progressive"})
    with pytest.raises(ConfigurationError, match=r"Such a model .*: torchgenaug fit progressive … --teacher FOLDER"):
        started("ddpm", tmp_path / "distilled", blobs())
    advised = resolve_condition("progressive", blobs(), tiny(teacher=str(trained), width=None))
    build_recipe("progressive", blobs(), advised)
    with pytest.raises(ConfigurationError, match=r"class_embedding.weight: \(3, 32\) there, \(4, 32\) here"):
        started("ddpm", trained, blobs(classes=3))
    with pytest.raises(ConfigurationError, match=r"`start` must fit the data .*: \(8,.* there, \(16,.* here"):
        started("ddpm", trained, blobs(), width=16)
    with pytest.raises(ConfigurationError, match=r"the images .* shape \(1, 16, 16\) there, \(1, 16, 16, 16\) here"):
        started("ddpm", trained, blobs(spatial=(16, 16, 16)))
    with pytest.raises(ConfigurationError, match=r"`start` must fit the data .* a difference in (generator|critic)"):
        started("dcgan", gan, blobs(spatial=(32, 32)))
    with pytest.raises(SynthesizerLoadError, match="`path` must be a folder with synthesizer"):
        started("ddpm", tmp_path, blobs())
    with pytest.raises(ConfigurationError, match="`start` must be left out for progressive"):
        resolve_condition("progressive", blobs(), tiny(start=str(trained), teacher=str(trained)))
