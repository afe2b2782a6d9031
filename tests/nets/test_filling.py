from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets import ModalityUNet


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


def test_one_modality_is_refused():
    with pytest.raises(ConfigurationError, match="at least two modalities"):
        ModalityUNet(shape=(1, 8, 8))
