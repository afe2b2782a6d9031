from __future__ import annotations

import copy
import inspect
import json
import pickle

import pytest
import torch
import yaml

pytest.importorskip("monai")
from monai.networks import nets as monai_nets

from torchgenaug import (
    ModuleSynthesizer,
    MonaiSynthesizer,
    build_network,
    load_monai_bundle,
    load_synthesizer,
    save_synthesizer,
    seeding,
)
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.testing import SynthesizerConformance

GENERATOR = {"latent_shape": 8, "start_shape": [8, 4, 4], "channels": [4, 1], "strides": [2, 1]}
VAE = {
    "spatial_dims": 2,
    "in_shape": [1, 8, 8],
    "out_channels": 1,
    "latent_size": 3,
    "channels": [4, 8],
    "strides": [1, 2],
}
SIGMOID = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
SAVE = {"_target_": "SaveImaged", "keys": "pred", "scale": 255, "output_dtype": "$np.uint8"}
UNIFORM = "$[torch.rand(@latent_size) for i in range(@num_samples)]"
NORMAL = "$[torch.randn(@latent_size) for i in range(@num_samples)]"


def program(name="Generator", arguments=GENERATOR, *, data=UNIFORM, post=(SIGMOID, SAVE)):
    """As in the model zoo: a program, of which the definition, the noise and the activation matter."""
    size = {"latent_size": 8} if name == "Generator" else {}
    return {
        "imports": ["$import glob"],
        **size,
        "network_def": {"_target_": name, **arguments, **({"latent_shape": "@latent_size"} if size else {})},
        "network": "$@network_def.to(@device)",
        "dataset": {"_target_": "Dataset", "data": data},
        "postprocessing": {"_target_": "Compose", "transforms": list(post)},
    }


def network_of(name, arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(monai_nets, name)(**arguments).eval()


def bundle(folder, content, network, *, file="inference.json", weights="model.pt"):
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    text = yaml.safe_dump(content) if file.endswith("yaml") else json.dumps(content)
    (folder / "configs" / file).write_text(text)
    torch.save(network.state_dict(), folder / "models" / weights)
    return folder


def latents(seed, size):
    return seeding.normal(seeding.derive([seed], seeding.NOISE), (size,))


class TestGenerator(SynthesizerConformance):
    def make(self):
        network = build_network("torchgenaug:OnePassNetwork", network="Generator", arguments=GENERATOR)
        network.load_state_dict(
            {f"network.{key}": value for key, value in network_of("Generator", GENERATOR).state_dict().items()}
        )
        return MonaiSynthesizer(network, None, size=(8, 8), value_range=(0, 1), network_range=(-9, 9))


@pytest.mark.parametrize("file", ["inference.json", "inference.yaml"])
def test_a_gan_with_uniform_latents_and_a_sigmoid(file, tmp_path):
    """As mednist_gan of the model zoo: trained with torch.rand, with the sigmoid in the post-processing."""
    network = network_of("Generator", GENERATOR)
    parts = load_monai_bundle(bundle(tmp_path / "b", program(), network, file=file), allow_pickle=True)
    synthesizer = MonaiSynthesizer(**parts, size=(8, 8), value_range=(0, 255))
    assert isinstance(synthesizer, ModuleSynthesizer)
    uniform = torch.distributions.Normal(0, 1).cdf(latents(5, 8))
    expected = network(uniform).sigmoid().mul(255)
    assert torch.allclose(synthesizer.synthesize([5])["image"], expected, atol=1e-3)
    save_synthesizer(synthesizer, tmp_path / "saved")
    loaded = load_synthesizer(tmp_path / "saved")
    assert loaded.fingerprint == synthesizer.fingerprint == pickle.loads(pickle.dumps(synthesizer)).fingerprint
    assert torch.equal(loaded.synthesize([5])["image"], synthesizer.synthesize([5])["image"])


def test_what_is_not_stated_is_assumed_in_a_warning(tmp_path):
    network = network_of("Generator", GENERATOR)
    folder = bundle(tmp_path, {"network_def": {"_target_": "monai.networks.nets.Generator", **GENERATOR}}, network)
    with pytest.warns(UserWarning, match=r"assumed: latents are standard normal; nothing follows the network"):
        parts = load_monai_bundle(folder, allow_pickle=True)
    with pytest.warns(UserWarning, match=r"`steps` is left out: \(8,\) latents"):
        synthesizer = MonaiSynthesizer(**parts, size=(8, 8), value_range=(0, 1), network_range=(0, 1), steps=2)
    assert torch.allclose(synthesizer.synthesize([5])["image"], network(latents(5, 8)), atol=1e-5)


@pytest.mark.parametrize("sigmoid", [True, False])
def test_the_decoder_of_a_vae(tmp_path, sigmoid):
    arguments = {**VAE, "use_sigmoid": sigmoid}
    network = network_of("VarAutoEncoder", arguments)
    folder = bundle(tmp_path, program("VarAutoEncoder", arguments, data=NORMAL, post=[SAVE]), network)
    if sigmoid:
        parts = load_monai_bundle(folder, allow_pickle=True)
    else:
        with pytest.warns(UserWarning, match="assumed: nothing follows the network"):
            parts = load_monai_bundle(folder, allow_pickle=True)
    limits = {} if sigmoid else {"network_range": (0, 1)}
    synthesizer = MonaiSynthesizer(**parts, size=(8, 8), value_range=(0, 1), **limits)
    expected = network.decode_forward(latents(5, 3), sigmoid)
    assert torch.allclose(synthesizer.synthesize([5])["image"], expected, atol=1e-5)


def test_volumes(tmp_path):
    arguments = {**GENERATOR, "start_shape": [8, 4, 4, 4]}
    parts = load_monai_bundle(
        bundle(tmp_path, program("Generator", arguments, data=NORMAL), network_of("Generator", arguments)),
        allow_pickle=True,
    )
    assert MonaiSynthesizer(**parts, size=(8, 8, 8), value_range=(0, 1)).synthesize([1])["image"].shape[1:] == (
        *(1, 8, 8, 8),
    )


def test_weights_may_be_named(tmp_path):
    folder = bundle(tmp_path, program(), network_of("Generator", GENERATOR), weights="best.pt")
    with pytest.raises(SynthesizerLoadError, match="must hold the weights of the generator"):
        load_monai_bundle(folder, allow_pickle=True)
    assert load_monai_bundle(folder, allow_pickle=True, weights={"generator": "models/best.pt"})["scheduler"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (program(post=[SIGMOID, {"_target_": "ScaleIntensityd", "keys": "pred"}]), "got 'ScaleIntensityd' in 'postp"),
        (program(post=[{"_target_": "Activationsd", "softmax": True}]), "beyond one sigmoid, got 'Activationsd'"),
        (program(post=[SIGMOID, SIGMOID]), "beyond one sigmoid"),
        (program(post=[{**SIGMOID, "sigmoid": "$evil()"}]), "beyond one sigmoid"),
        (program(data=UNIFORM + NORMAL[1:]), "one distribution, got rand and randn"),
        (program(arguments={**GENERATOR, "channels": [10**9, 1]}), "at most 1,048,576"),
        (program(arguments={**GENERATOR, "channels": [1 << 19, 1 << 19]}), "must not be larger than its weights"),
        (program(arguments={**GENERATOR, "channels": [5, 1]}), "Weights must fit"),
        (program(arguments={**GENERATOR, "no_such": 1}), "no_such"),
        (program(arguments={**GENERATOR, "channels": "$evil()"}), "must be plain values"),
        (program(name="scripts.Generator"), r"must be a class of monai\.networks\.nets"),
    ],
)
def test_hostile_and_unsupported_bundles_are_refused(content, message, tmp_path):
    with pytest.raises(SynthesizerLoadError, match=message):
        load_monai_bundle(bundle(tmp_path, content, network_of("Generator", GENERATOR)), allow_pickle=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (16, 16)}, r"`size` must be that of the network's images, \(8, 8\), got \(16, 16\)"),
        ({"guidance_scale": 2.0}, "`guidance_scale` must be left out for a generator"),
        ({"clip": True}, "`clip` must be left out"),
        ({"null_class": 1}, "`null_class` must be left out"),
        ({"scheduler": object()}, "`scheduler` must be left out"),
        ({"value_range": None}, "must be given"),
    ],
)
def test_settings_of_diffusion_models_are_refused(options, message):
    network = build_network("torchgenaug:OnePassNetwork", network="Generator", arguments=GENERATOR)
    with pytest.raises(ConfigurationError, match=message):
        MonaiSynthesizer(network, **({"scheduler": None, "size": (8, 8), "value_range": (0, 1)} | options))


def test_choices_of_the_network():
    with pytest.raises(ConfigurationError, match="`latents` must be one of"):
        build_network("torchgenaug:OnePassNetwork", network="Generator", arguments=GENERATOR, latents="cauchy")
    with pytest.raises(ConfigurationError, match="`network` must be one of"):
        build_network("torchgenaug:OnePassNetwork", network="UNet", arguments={})


def test_the_signature_is_that_of_diffusion_models():
    parameters = inspect.signature(MonaiSynthesizer).parameters
    assert list(parameters)[:3] == ["unet", "scheduler", "size"]
    assert parameters["value_range"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "options" in parameters


def test_copies():
    network = build_network("torchgenaug:OnePassNetwork", network="Generator", arguments=GENERATOR)
    synthesizer = MonaiSynthesizer(network, None, size=(8, 8), value_range=(0, 1))
    assert copy.deepcopy(synthesizer).fingerprint == synthesizer.fingerprint
