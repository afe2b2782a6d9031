from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets import GatedUNet, ModalityUNet


def given(present, shape=(8, 8), low=0.0, high=100.0):
    """A random image of several modalities, those that are absent marked and set to a value that must not matter."""
    values = torch.rand((1, len(present), *shape), generator=torch.Generator().manual_seed(0)) * (high - low) + low
    there = torch.tensor(present).view(1, -1, *[1] * len(shape)).expand_as(values)
    return torch.cat([values, torch.where(there, low, high)], 1), values


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 8)])
def test_what_is_given_is_kept_to_the_bit_and_what_is_hidden_does_not_matter(shape):
    net = ModalityUNet(shape=(3, *shape), width=2, value_range=(0, 100)).eval()
    source, values = given([True, False, True], shape)
    with torch.no_grad():
        made = net(source)
        source[:, 1] = 7.0
        again = net(source)
    assert torch.equal(made[:, [0, 2]], values[:, [0, 2]])
    assert not torch.equal(made[:, 1], values[:, 1])
    assert torch.equal(made, again)
    assert made.min() >= 0
    assert made.max() <= 100


def test_no_modality_is_refused_by_name():
    net = ModalityUNet(shape=(2, 8, 8), width=2, value_range=(0, 100))
    one, _ = given([True, False])
    none, _ = given([False, False])
    with pytest.raises(ConfigurationError, match=r"at least one modality that is present .* position 1"):
        net(torch.cat([one, none]))
    whole, _ = given([True, True])
    with pytest.raises(ConfigurationError, match=r"mark a missing modality .* position 1.* 100 where .* else 0\."):
        net(torch.cat([one, whole]))


def test_one_modality_is_refused():
    with pytest.raises(ConfigurationError, match="at least two modalities"):
        ModalityUNet(shape=(1, 8, 8))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 8)])
def test_a_gated_network_keeps_what_surrounds_the_region(shape):
    net = GatedUNet(shape=(1, *shape), marks=2, width=2, latent_dim=3, value_range=(0, 100)).eval()
    image, marks = torch.rand(2, 1, *shape) * 100, torch.zeros(2, 2, *shape)
    marks[0, 0, 2:4, 3:5] = marks[1, 1, 5:, 5:] = 100
    hidden = marks.amax(1, keepdim=True) > 50
    latents = torch.randn(2, 3)
    with torch.no_grad():
        made = net(latents, torch.cat([image, marks], 1))
        again = net(latents, torch.cat([torch.where(hidden, 55.0, image), marks], 1))
        other = net(-latents, torch.cat([image, marks], 1))
    assert torch.equal(made[~hidden], image[~hidden])
    assert torch.equal(made, again)
    assert not torch.equal(made, other)
    with pytest.raises(ConfigurationError, match=r"must mark a region in every sample, got none at position 1"):
        net(latents, torch.cat([image, marks * torch.tensor([1.0, 0]).view(2, *[1] * (len(shape) + 1))], 1))
    marks[1] = 100
    with pytest.raises(
        ConfigurationError, match=r"got all of the image marked at position 1. There is nothing to fill"
    ):
        net(latents, torch.cat([image, marks], 1))
