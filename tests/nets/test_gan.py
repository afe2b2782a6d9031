from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets import DCGANGenerator


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 64, 96), (1, 16, 16, 8)])
def test_shapes_and_range(shape):
    net = DCGANGenerator(latent_dim=4, shape=shape, width=2, value_range=(-1000, 2000))
    images = net(torch.randn(3, 4))
    assert images.shape == (3, *shape)
    assert images.min() >= -1000
    assert images.max() <= 2000


def test_classes_matter_and_must_be_given():
    net = DCGANGenerator(latent_dim=4, shape=(1, 8, 8), width=2, num_classes=2).eval()
    latents = torch.randn(1, 4)
    assert not torch.equal(net(latents, torch.tensor([0])), net(latents, torch.tensor([1])))
    with pytest.raises(ConfigurationError, match="`labels` must be given"):
        net(latents)
