"""Perceptual and style losses: known values, a network of the user's own, and what cannot be one."""

from __future__ import annotations

import sys
import textwrap

import pytest
import torch
from fit_helpers import blobs, tiny

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.build import build_recipe
from torchgenaug.recipes.families.feature_losses import SETTINGS, FeatureLosses, gram
from torchgenaug.recipes.settings import checked_settings

FACTORIES = """
    import torch

    def edges():
        return torch.nn.Conv2d(1, 4, 3, padding=1)

    def vector():
        return torch.nn.Flatten()

    def wrong_channels():
        return torch.nn.Conv2d(3, 4, 3)

    def no_network():
        return 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_features.py").write_text(textwrap.dedent(FACTORIES))
    monkeypatch.chdir(tmp_path)
    yield "own_features"
    sys.modules.pop("own_features", None)


def losses(**settings):
    return FeatureLosses(checked_settings("pix2pix", SETTINGS, settings), (1, 8, 8))


def test_correlations_do_not_depend_on_places():
    features = torch.randn(2, 3, 4, 5)
    shuffled = features.flatten(2)[:, :, torch.randperm(20)].unflatten(2, (4, 5))
    assert torch.allclose(gram(features), gram(shuffled), atol=1e-6)
    assert torch.allclose(gram(torch.ones(1, 2, 4, 5)), torch.full((1, 2, 2), 0.5))


def test_losses_of_the_critic_s_features_are_known():
    real, fake = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    none = losses()(real, fake, pytest.fail, [fake])
    assert none == {}
    found = losses(perceptual=2.0, style=3.0)(real, fake, lambda: [real], [fake])
    assert found["perceptual"].item() == pytest.approx(2)
    assert found["style"].item() == pytest.approx(3)


def test_features_of_a_network_of_ones_own(own):
    real, fake = torch.randn(2, 2, 1, 8, 8).unbind()
    fake.requires_grad_()
    found = losses(perceptual=1.0, features=f"{own}:edges")(real, fake, pytest.fail, [])
    found["perceptual"].backward()
    assert fake.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg", "`features` must be critic or package.module:factory"),
        ("own_features:nothing", "`features` must name a function or class of 'own_features'"),
        ("own_features:no_network", "which returns int. Let it return a torch.nn.Module"),
        ("own_features:wrong_channels", r"`features` must be a network of images \(1, 16, 16\)"),
        ("own_features:vector", r"must be a network that returns tensors \(batch, channels, \*spatial\)"),
    ],
)
def test_what_has_no_features(own, name, message):
    pytest.importorskip("monai")
    settings = {"perceptual": 1.0, "features": name}
    with pytest.raises(ConfigurationError, match=message):
        build_recipe("pix2pix", blobs(), tiny(condition="mask", settings=settings))


def test_features_that_would_not_be_used_are_refused():
    with pytest.raises(ConfigurationError, match=r"`features` must come with a weight.*Add --set perceptual=10"):
        losses(features="own_features:edges")
