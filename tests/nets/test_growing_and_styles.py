"""Networks that grow, and networks with styles."""

from __future__ import annotations

import pytest
import torch

from torchgenaug import load_synthesizer, save_synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.pggan import PGGANCritic, PGGANGenerator, at_growth
from torchgenaug.recipes.families.pggan import growth_at
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.synthesizers.module.truncation import truncated


def test_growth_settles_at_every_size_and_ends_full_grown():
    found = [growth_at(k / 60, 2) for k in range(61)]
    assert found == sorted(found)
    assert found[:11] == [0.0] * 11
    assert found[20:31] == [1.0] * 11
    assert found[40:] == [2.0] * 21
    assert 0 < found[15] < 1 < found[35] < 2


@pytest.mark.parametrize("growth", [0.0, 0.5, 1.0, 1.25, 2.0])
def test_a_growing_gan_makes_full_images_and_the_critic_sees_what_was_grown(growth):
    torch.manual_seed(0)
    generator, critic = (
        PGGANGenerator(latent_dim=4, shape=[1, 16, 24], width=4),
        PGGANCritic(shape=[1, 16, 24], width=4),
    )
    generator.growth.fill_(growth)
    latents = torch.randn(3, 4)
    assert generator(latents).shape == (3, 1, 16, 24)
    grown = generator.grown(latents)
    real = at_growth(torch.rand(3, 1, 16, 24), growth, generator.levels)
    assert grown.shape == real.shape
    assert critic(grown, growth).shape == (3,)


def test_a_size_fades_in_without_a_jump():
    torch.manual_seed(0)
    generator, critic = (
        PGGANGenerator(latent_dim=4, shape=[1, 16, 16], width=4),
        PGGANCritic(shape=[1, 16, 16], width=4),
    )
    latents = torch.randn(3, 4)
    images, scores = [], []
    for growth in (1.0, 1.0 + 1e-6):
        generator.growth.fill_(growth)
        images.append(generator(latents))
        scores.append(critic(generator.grown(latents), growth))
    assert torch.allclose(images[0], images[1], atol=1e-4)
    assert torch.allclose(scores[0], scores[1], atol=1e-4)


def styled(classes=None):
    torch.manual_seed(0)
    network = build_network(
        "torchgenaug:StyleGAN2Generator", latent_dim=8, shape=[1, 16, 16], width=4, num_classes=classes
    )
    for layer in network.mapping:
        layer.bias.data.normal_(std=50.0)  # its rate is a hundredth
    network.set_mean_style()
    return ModuleSynthesizer(network, latent_shape=(8,), num_classes=classes, value_range=(-1, 1))


def test_truncation_takes_variety_away_and_is_saved(tmp_path):
    whole, state = styled(), torch.get_rng_state()
    spreads = [truncated(whole, part).synthesize(range(16))["image"].std(0).mean() for part in (1.0, 0.7, 0.3, 0.0)]
    assert torch.equal(torch.get_rng_state(), state)
    assert spreads[0] > spreads[1] > spreads[2] > spreads[3]
    assert spreads[3] < 1e-5
    assert torch.equal(truncated(whole, 1.0).synthesize([3])["image"], whole.synthesize([3])["image"])
    half = truncated(whole, 0.5)
    assert half.fingerprint != whole.fingerprint
    save_synthesizer(half, tmp_path / "half")
    loaded = load_synthesizer(tmp_path / "half")
    assert loaded.fingerprint == half.fingerprint
    assert torch.equal(loaded.synthesize([3])["image"], half.synthesize([3])["image"])


def test_each_class_has_a_mean_style_of_its_own():
    classes = truncated(styled(2), 0.0).synthesize([0, 1], {"label": torch.tensor([0, 1])})["image"]
    assert not torch.allclose(classes[0], classes[1])


def test_what_cannot_be_truncated():
    for part in (-0.1, 1.5):
        with pytest.raises(ConfigurationError, match=r"`truncation` must be in \[0, 1\]"):
            truncated(styled(), part)
    plain = build_network("torchgenaug:DCGANGenerator", latent_dim=4, shape=[1, 8, 8], width=4)
    for other in (ModuleSynthesizer(plain, latent_shape=(4,), value_range=(-1, 1)), "a folder"):
        with pytest.raises(ConfigurationError, match="`truncation` must be left out for a model without styles"):
            truncated(other, 0.7)
