from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from torchgenaug.contracts import Stored
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers import ModuleSynthesizer, build_network, load_synthesizer, save_synthesizer


def generator(**changes):
    torch.manual_seed(0)
    arguments = {"latent_dim": 4, "shape": (1, 8, 16), "width": 4, "num_classes": 3, "value_range": (0, 100)}
    return build_network("torchgenaug:DCGANGenerator", **arguments | changes)


def made(**changes):
    module = generator(**changes)
    return ModuleSynthesizer(module, latent_shape=(4,), num_classes=3, value_range=(0, 100))


def test_a_module_round_trip(tmp_path):
    synthesizer = made()
    synthesizer.trained_on = {"rows": [1, 2]}
    save_synthesizer(synthesizer, tmp_path / "gan")
    loaded = load_synthesizer(tmp_path / "gan")
    assert loaded.fingerprint == synthesizer.fingerprint
    assert loaded.trained_on == {"rows": [1, 2]}
    labels = {"label": torch.tensor([0, 2])}
    assert torch.equal(loaded.synthesize([1, 2], labels)["image"], synthesizer.synthesize([1, 2], labels)["image"])


def test_settings_become_arguments_on_another_device():
    stored = Stored({"steps": 3, "dtype": "bfloat16", "cuda_graph": True})
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert stored.arguments(cpu, None) == {"steps": 3, "dtype": torch.bfloat16, "device": cpu}
    assert stored.arguments(cuda, torch.float16) == {
        "steps": 3,
        "dtype": torch.float16,
        "device": cuda,
        "cuda_graph": True,
    }
    assert stored.settings["dtype"] == "bfloat16"


def test_small_weights(tmp_path):
    synthesizer = made()
    save_synthesizer(synthesizer, tmp_path / "gan", weights_dtype=torch.float16)
    loaded = load_synthesizer(tmp_path / "gan")
    index = json.loads((tmp_path / "gan" / "synthesizer.json").read_text())
    assert index["fingerprint"] == loaded.fingerprint != synthesizer.fingerprint
    assert loaded.dtype == torch.float32


def test_a_network_that_does_not_know_how_it_was_built(tmp_path):
    module = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))
    synthesizer = ModuleSynthesizer(module, latent_shape=(4,), value_range=(0, 1))
    with pytest.raises(ConfigurationError, match=r"build_network.*package.module:factory"):
        save_synthesizer(synthesizer, tmp_path / "gan")
    assert not (tmp_path / "gan").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:system", "must be a network of os"),
        ("torchgenaug:Sequence", "must be a network of torchgenaug.nets"),
        ("torchgenaug:__class__", "must be library:Class"),
        ("diffusers:DiffusionPipeline", "must be a network of diffusers"),
        ("diffusers:utils", "must be a network of diffusers"),
        ("DCGANGenerator", "must be library:Class"),
    ],
)
def test_only_networks_of_known_libraries_are_built(name, message):
    with pytest.raises(ConfigurationError, match=message):
        build_network(name)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("monai:HoVerNet", {"pretrained_url": "http://example.org/weights.pth"}),
        ("monai:ResNetFeatures", {"model_name": "resnet10", "pretrained": "weights.pth"}),
        ("torchgenaug:DCGANGenerator", {"latent_dim": "https://example.org"}),
        ("torchgenaug:DCGANGenerator", {"options": [{"file": "/etc/passwd"}]}),
    ],
)
def test_networks_are_built_without_files_and_without_the_net(name, arguments):
    with pytest.raises(ConfigurationError, match=r"must make the network alone, got .*load_state_dict"):
        build_network(name, **arguments)


def test_arguments_must_be_json_and_fit():
    with pytest.raises(ConfigurationError, match="must be JSON-ready"):
        build_network("torchgenaug:DCGANGenerator", latent_dim=torch.tensor(4), shape=[1, 8, 8])
    with pytest.raises(ConfigurationError, match="what its constructor takes"):
        build_network("torchgenaug:DCGANGenerator", latent=4)
    with pytest.raises(ConfigurationError, match=r"halved 2 times, got \(18, 18\).*\(20, 20\)"):
        generator(shape=[1, 18, 18])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": {"module": {"class": "os:system", "arguments": {}}}}, "known to be safe.*trust_code=True"),
        ({"networks": {"module": {"class": "torchgenaug:DCGANGenerator", "arguments": [1]}}}, "described by its class"),
        ({"networks": {}}, "`files` must name"),
        ({"networks": {"../module": None}}, "`files` must name"),
        ({"settings": {}}, "fit its configuration"),
        ({"parts": ["../x"]}, "`files` and `parts` must name"),
        ({"parts": ["x"]}, "must hold synthesizer.json"),
        ({"files": {"../../evil.safetensors": "0"}}, "Nothing else is opened"),
        ({"files": {"networks/module.bin": "0"}}, "Nothing else is opened"),
    ],
)
def test_hostile_index(tmp_path, change, message):
    save_synthesizer(made(), tmp_path / "gan")
    path = tmp_path / "gan" / "synthesizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SynthesizerLoadError, match=message):
        load_synthesizer(tmp_path / "gan")
