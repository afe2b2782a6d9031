"""The critic, the U-Net and the SPADE generator: shapes, ranges, what decides their outputs, what they refuse."""

from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets import Critic, SpadeGenerator, TranslationUNet
from torchgenaug.nets.pggan import PGGANCritic
from torchgenaug.nets.stylegan2 import StyleGAN2Critic
from torchgenaug.nets.translation import clipped
from torchgenaug.recipes.families.adversarial import squared_gradient


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 24), (1, 8, 16, 8)])
def test_critics_give_a_score_and_class_scores(shape):
    images = torch.randn(5, *shape)
    scores, classes = Critic(shape=shape, width=2, batch_spread=True)(images)
    assert scores.shape == (5,)
    assert classes is None
    scores, classes = Critic(shape=shape, width=2, num_classes=3, auxiliary=True)(images)
    assert classes.shape == (5, 3)


def test_a_critic_is_told_the_class():
    critic, images = Critic(shape=(1, 8, 8), width=2, num_classes=2), torch.randn(1, 1, 8, 8)
    assert critic(images, torch.tensor([0]))[0] != critic(images, torch.tensor([1]))[0]
    with pytest.raises(ConfigurationError, match="`labels` must be given to a critic"):
        critic(images)
    with pytest.raises(ConfigurationError, match="`num_classes` must be given with auxiliary"):
        Critic(shape=(1, 8, 8), auxiliary=True)


def test_only_with_batch_spread_does_a_score_depend_on_the_batch():
    images = torch.randn(4, 1, 8, 8)
    for batch_spread in (False, True):
        critic = Critic(shape=(1, 8, 8), width=2, batch_spread=batch_spread)
        alone, together = critic(images[:1])[0], critic(images)[0][:1]
        assert torch.allclose(alone, together, atol=1e-6) != batch_spread


@pytest.mark.parametrize(
    ("kind", "settings", "growth"),
    [
        (Critic, {"batch_spread": True}, []),
        (Critic, {"batch_discrimination": True}, []),
        (PGGANCritic, {}, [1.0]),
        (StyleGAN2Critic, {}, []),
    ],
)
def test_r1_has_a_gradient_for_a_batch_without_variety(kind, settings, growth):
    critic, image = kind(shape=(1, 8, 8), width=2, **settings), torch.zeros(1, 1, 8, 8)
    for images in (image, image.expand(3, -1, -1, -1).clone()):
        images.requires_grad_()
        scores = critic(images, *growth)
        squared_gradient(scores[0] if isinstance(scores, tuple) else scores, images).mean().backward()
        assert all(bool(each.grad.isfinite().all()) for each in critic.parameters() if each.grad is not None)


@pytest.mark.parametrize(
    ("spatial", "wanted"),
    [((10, 10), "12,12"), ((32, 36), "32,40"), ((20, 12, 5), "20,12,8"), ((16, 16, 10), "16,16,12")],
)
def test_sizes_that_a_translator_cannot_halve_are_named_with_ones_that_it_can(spatial, wanted):
    with pytest.raises(ConfigurationError, match=r"`shape` must hold sizes that .* --size [\d,]+$") as raised:
        TranslationUNet(in_channels=1, shape=(1, *spatial), width=1)
    assert str(raised.value).endswith(f"--size {wanted}")
    images = torch.zeros(1, 1, *map(int, wanted.split(",")))
    assert TranslationUNet(in_channels=1, shape=images.shape[1:], width=1)(images).shape == images.shape


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 16, 24), (1, 8, 16, 8)])
def test_translators_keep_size_and_range(shape):
    condition = torch.rand(2, 3, *shape[1:]) * 100
    net = TranslationUNet(in_channels=3, shape=shape, width=2, value_range=(-1000, 2000), source_range=(0, 100))
    images = net(condition)
    assert images.shape == (2, *shape)
    assert images.min() >= -1000
    assert images.max() <= 2000
    plain = TranslationUNet(in_channels=3, shape=shape, width=2)
    plain.load_state_dict(net.state_dict())
    assert torch.allclose(plain(condition / 50 - 1) * 1500 + 500, images, atol=0.1)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_overshot_comes_back_and_goes_no_further(sign):
    """Values are cut exactly; outside the range a loss may move them back, but not away."""
    features = torch.linspace(-7.3, 7.3, 101, requires_grad=True)
    images = clipped(features)
    assert torch.equal(images, features.clamp(-1, 1))
    (sign * images).sum().backward()
    outside = features.detach() < -1 if sign > 0 else features.detach() > 1  # a step goes against the gradient
    assert torch.equal(features.grad, sign * (~outside).float())


def test_a_critic_alone_does_not_drive_features_away():
    torch.manual_seed(0)
    net = TranslationUNet(in_channels=1, shape=(1, 8, 8), width=4)
    leaving = []
    net.leave.register_forward_hook(lambda layer, given, made: leaving.append(made.detach().abs().max()))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    condition = torch.randn(4, 1, 8, 8)
    for _ in range(60):
        optimizer.zero_grad()
        (-net(condition).mean()).backward()
        optimizer.step()
    assert net(condition).mean() > 0.9
    assert leaving[-1] < 4


def test_latents_decide_and_must_be_given():
    net = TranslationUNet(in_channels=1, shape=(1, 8, 8), width=2, latent_dim=3)
    condition = torch.randn(1, 1, 8, 8)
    assert not torch.equal(net(torch.randn(1, 3), condition), net(torch.randn(1, 3), condition))
    with pytest.raises(ConfigurationError, match="must be called with latents and a condition, got 1"):
        net(condition)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 16, 8)])
def test_spade_follows_latents_and_masks(shape):
    pytest.importorskip("monai")
    torch.manual_seed(0)
    net = SpadeGenerator(latent_dim=3, mask_classes=2, shape=shape, width=2, hidden=2, value_range=(0, 10))
    one = torch.zeros(1, 2, *shape[1:])
    one[:, 0] = 1
    latents = torch.randn(1, 3)
    images = net(latents, one)
    assert images.shape == (1, *shape)
    assert images.min() >= 0
    assert images.max() <= 10
    assert not torch.equal(net(torch.randn(1, 3), one), images)
    # Which class fills the image matters, too: normalised modulation maps would lose it.
    assert (net(latents, one.flip(1)) - images).abs().max() > 1e-3
