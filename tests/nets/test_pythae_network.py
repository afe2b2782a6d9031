from __future__ import annotations

import copy
import pickle

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.pythae import GAUSSIAN_MODELS, MODELS, PythaeNetwork
from torchgenaug.recipes.families import autoencoders
from torchgenaug.synthesizers import build_network

IN_3D = ("VAE", "RHVAE", "VAEGAN", "VQVAE", "MSSSIM_VAE")


def network(model: str, shape=(1, 14, 12), **arguments):
    torch.manual_seed(0)
    return PythaeNetwork(model, shape, latent_dim=4, width=4, **arguments)


def step(made, images):
    """One step of each group's optimizer; the losses."""
    losses = made.losses(images, epoch=1, dataset_size=len(images))
    for group, loss in losses.items():
        loss.backward(inputs=list(made.group_parameters(group)), retain_graph=True)
    torch.optim.SGD(made.parameters(), 1e-3).step()
    return losses


def test_there_are_all_of_pythae():
    assert len(MODELS) == 25


@pytest.mark.parametrize(
    ("model", "shape"), [(model, (1, 14, 12)) for model in MODELS] + [(model, (2, 8, 9, 7)) for model in IN_3D]
)
def test_trains_copies_and_decodes(model, shape):
    made = network(model, shape)
    before = copy.deepcopy(made.state_dict())
    losses = step(made, torch.rand(4, *shape))
    assert losses
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    assert any(not torch.equal(before[name], value) for name, value in made.state_dict().items())
    made.eval()
    latents = torch.randn(3, *made.latent_shape)
    images = made.decode(latents).detach()
    assert images.shape == (3, *shape)
    assert 0 <= images.min() < images.max() <= 1
    assert made.encode(images).shape == latents.shape
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(other.decode(latents), images)
        step(other.train(), images)  # a copy trains on its own
    assert torch.equal(made.decode(latents), images)


@pytest.mark.parametrize("model", MODELS)
def test_groups_share_no_parameter_and_cover_all(model):
    made = network(model)
    groups = [list(made.group_parameters(group)) for group in made.groups]
    every = [id(p) for group in groups for p in group]
    assert len(every) == len(set(every))
    assert set(every) == {id(p) for p in made.parameters() if p.requires_grad}


def test_an_unbalanced_vaegan_asks_to_leave_a_group_alone():
    made = network("VAEGAN", options={"equilibrium": 0.0, "margin": 0.0})
    assert "decoder" not in made.losses(torch.rand(4, 1, 14, 12))


@pytest.mark.parametrize("spatial", [(5, 5), (17, 31), (9, 8, 11)])
def test_any_size(spatial):
    made = network("VAE", (1, *spatial))
    assert made.decode(torch.zeros(1, 4)).shape == (1, 1, *spatial)
    assert made.losses(torch.rand(2, 1, *spatial))["autoencoder"].isfinite()


def test_the_images_given_are_left_as_they_are():
    images = torch.rand(4, 1, 14, 12)
    network("RAE_GP").losses(images)["autoencoder"].backward()
    assert not images.requires_grad


@pytest.mark.parametrize(("side", "layer", "depth"), [(16, 1, 3), (32, 2, 4), (64, 2, 5)])
def test_a_vae_gan_compares_features_half_way_up_its_discriminator(side, layer, depth):
    made = PythaeNetwork("VAEGAN", (1, side, side), width=4).model
    assert (made.reconstruction_layer, made.discriminator.depth) == (layer, depth)
    assert (
        PythaeNetwork(
            "VAEGAN", (1, side, side), width=4, options={"reconstruction_layer": 1}
        ).model.reconstruction_layer
        == 1
    )


def test_the_decoder_of_rae_l2_is_kept_small_by_the_loss():
    images, losses = torch.rand(4, 1, 14, 12), []
    for weight in (0.0, 1.0):
        made = network("RAE_L2", options={"reg_weight": weight})
        losses.append(made.losses(images)["autoencoder"])
    squares = sum(each.square().sum() for each in made.decoder.parameters())
    assert torch.allclose(losses[1] - losses[0], 0.5 * squares, rtol=1e-3)


@pytest.mark.parametrize("curvature", [1.0, 4.0])
def test_means_of_a_poincare_vae_lie_in_its_ball(curvature):
    made = network("PoincareVAE", options={"curvature": curvature})
    images = torch.rand(4, 1, 14, 12)
    with torch.no_grad():
        made.model.encoder.encoder.mean.weight *= 1000  # far outside
        lengths = made.encode(images).norm(dim=1)
        assert (lengths < 0.96 / curvature**0.5).all()
        assert (lengths > 0.94 / curvature**0.5).all()
        made.model.encoder.encoder.mean.weight *= 1e-6
        made.model.encoder.encoder.mean.bias.zero_()
        inside = made.model.encoder.encoder(images)["embedding"]
        assert torch.allclose(made.encode(images), 0.95 * inside, rtol=1e-2), "near the origin nothing is bent"
    assert torch.isfinite(made.losses(images)["autoencoder"])


def test_perceptrons_are_pythaes_own():
    made = network("BetaVAE", architecture="mlp", options={"beta": 2.0})
    assert type(made.model.encoder).__name__ == "Encoder_VAE_MLP"
    assert made.model.model_config.beta == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "VEA", "input_shape": [1, 8, 8]}, "must be one of AE, "),
        ({"model": "VAE", "input_shape": [8, 8]}, "2D or 3D"),
        ({"model": "VAE", "input_shape": [1, 8, 8], "width": 6}, "multiple of 4"),
        ({"model": "VAE", "input_shape": [1, 8, 8], "architecture": "resnet"}, "'conv' or 'mlp'"),
        ({"model": "VAE", "input_shape": [1, 8, 8], "options": {"beta": 2}}, r"among .* got \['beta'\]"),
        ({"model": "BetaVAE", "input_shape": [1, 8, 8], "options": {"beta": "high"}}, "must fit BetaVAEConfig"),
        ({"model": "HVAE", "input_shape": [1, 8, 8], "options": {"reconstruction_loss": "bce"}}, "logits"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        build_network("torchgenaug:PythaeNetwork", **arguments)


@pytest.mark.parametrize("model", GAUSSIAN_MODELS)
def test_a_smaller_deviation_of_pixels_weighs_the_squared_error_by_its_inverse_square(model):
    images, outputs = torch.rand(4, 1, 14, 12), []
    for deviation in (1.0, 0.25):
        made = network(model, observation_std=deviation)
        torch.manual_seed(1)
        outputs.append(made(images, dataset_size=100))
        assert not {"loss_function", "_log_p_x_given_z"} & vars(made.model).keys(), "nothing stays that does not pickle"
    one, quarter = outputs
    # HVAE and RHVAE move latents along the gradient of the likelihood, a little.
    tolerance = 1e-3 if "HVAE" in model else 0.0
    assert torch.allclose(one["recon_x"], quarter["recon_x"], rtol=0, atol=tolerance), "in [0, 1] all the same"
    if "reg_loss" in one and "IWAE" not in model:
        assert torch.allclose(quarter["recon_loss"], 16 * one["recon_loss"], rtol=1e-4)
        assert torch.allclose(quarter["reg_loss"], one["reg_loss"])
    loss = next(name for name in ("loss", "autoencoder_loss", "encoder_loss") if name in one)
    assert one[loss].sum() < quarter[loss].sum()


def test_the_recipes_know_which_models_have_a_deviation():
    assert set(GAUSSIAN_MODELS) == autoencoders._GAUSSIAN


@pytest.mark.parametrize(("model", "deviation"), [("VAE", 0.0), ("VAE", -1.0), ("VAE", float("nan")), ("VQVAE", 0.5)])
def test_bad_deviations(model, deviation):
    with pytest.raises(ConfigurationError, match="`observation_std` must be positive, and 1 but for VAE, "):
        network(model, observation_std=deviation)
