from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from torchgenaug.errors import ConfigurationError, FieldMismatchError, SynthesizerLoadError
from torchgenaug.metrics import FeatureSets, NetworkFeatures
from torchgenaug.metrics.features.contract import extract_features
from torchgenaug.metrics.features.weights import file_sha256


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5))


def test_evaluated_pooled_and_named():
    net = network()
    features = NetworkFeatures(net, name="mine")
    images = torch.rand(3, 1, 8, 8)
    net.train()  # as a training loop would
    first = features(images)
    assert first.shape == (3, 6)
    assert torch.equal(first, features(images))
    assert features.name == "mine"


def test_the_fingerprint_follows_the_weights():
    assert NetworkFeatures(network(), name="a").sha256 == NetworkFeatures(network(), name="b").sha256
    assert NetworkFeatures(network(), name="a").sha256 != NetworkFeatures(network(1), name="a").sha256


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_by_path(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    state = network(1).state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = NetworkFeatures.from_weights(network(), path, name="mine", sha256=file_sha256(path))
    assert loaded.sha256 == NetworkFeatures(network(1), name="mine").sha256


def test_bad_weights_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(SynthesizerLoadError, match="which is none"):
        NetworkFeatures.from_weights(network(), path, name="mine")
    save_file(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(SynthesizerLoadError, match="exactly the weights of Sequential"):
        NetworkFeatures.from_weights(network(), path, name="mine")
    with pytest.raises(SynthesizerLoadError, match="must have sha256 00"):
        NetworkFeatures.from_weights(network(), path, name="mine", sha256="00")


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_code_in_a_pickle_is_never_run(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(SynthesizerLoadError, match="cannot be read as such"):
        NetworkFeatures.from_weights(network(), path, name="mine")


def test_bad_networks_are_refused():
    with pytest.raises(ConfigurationError, match=r"torch\.nn\.Module, got function"):
        NetworkFeatures(lambda images: images, name="mine")
    with pytest.raises(ConfigurationError, match="without brackets"):
        NetworkFeatures(network(), name="a[b]")

    class Pair(nn.Module):
        def forward(self, images):
            return images, images

    with pytest.raises(FieldMismatchError, match="must return a tensor, got tuple"):
        NetworkFeatures(Pair(), name="pair")(torch.zeros(1, 1, 4, 4))


def test_a_network_that_returns_one_vector_for_all_images_is_refused():
    class Dead(nn.Module):
        def forward(self, images):
            return torch.zeros(len(images), 4)

    images = torch.rand(6, 1, 8, 8)
    with pytest.raises(FieldMismatchError, match="the same ones for all 6 real images"):
        FeatureSets.extract(NetworkFeatures(Dead(), name="dead"), images, images, value_range=(0, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_of_another_precision_gets_its_own(dtype):
    features = NetworkFeatures(network().to(dtype), name="half")
    assert features(torch.rand(3, 1, 8, 8)).dtype == dtype


def test_a_network_without_weights_is_refused():
    with pytest.raises(ConfigurationError, match="on the device 'meta'"):
        NetworkFeatures(nn.Linear(2, 2, device="meta"), name="empty")


def test_what_a_network_raises_names_the_features():
    with pytest.raises(RuntimeError) as caught:
        extract_features(NetworkFeatures(network(), name="mine"), torch.rand(2, 3, 8, 8))
    assert "features 'mine' for images of shape (2, 3, 8, 8)" in caught.value.__notes__[0]
