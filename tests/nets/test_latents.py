from __future__ import annotations

import numpy as np
import pytest
import torch
from pythae.models.pvae.pvae_utils import PoincareBall, RiemannianNormal, WrappedNormal
from torch.distributions import MultivariateNormal

from torchgenaug.nets import (
    BallLatents,
    CodeLatents,
    ManifoldLatents,
    MixtureLatents,
    NormalLatents,
    SecondStageLatents,
    SphereLatents,
)

MANY = list(range(4000))


def mixture():
    torch.manual_seed(0)
    made = MixtureLatents(3, 2)
    made.weights.copy_(torch.tensor([0.2, 0.5, 0.3]))
    made.means.copy_(torch.tensor([[-8.0, 0.0], [0.0, 8.0], [8.0, 0.0]]))
    made.factors.copy_(torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.3, 0.0], [0.0, 2.0]], [[1.0, 0.0], [-1.0, 1.0]]]))
    return made


def manifold(**settings):
    torch.manual_seed(1)
    made = ManifoldLatents(5, 3, temperature=0.8, regularization=0.05, **settings)
    factors = torch.randn(5, 3, 3).tril()
    made.matrices.copy_(factors @ factors.transpose(1, 2) + 0.1 * torch.eye(3))
    made.centroids.copy_(torch.randn(5, 3))
    return made


def codes(*arguments, **settings):
    torch.manual_seed(2)
    made = CodeLatents(*arguments, **settings)
    made.book.normal_()
    return made


@pytest.mark.parametrize(
    "latents",
    [
        NormalLatents((3, 4)),
        SphereLatents(5),
        BallLatents(3),
        BallLatents(3, 1.5, 0.7, riemannian=True),
        mixture(),
        manifold(steps=5, leapfrog_steps=4),
        SecondStageLatents(4, 8, 2),
        codes((3, 4), 7, 2, width=8, depth=2),
        codes((1, 1), 7, 5, width=8, depth=1, flat=True),
    ],
    ids=lambda latents: type(latents).__name__,
)
def test_a_latent_is_a_function_of_its_seed(latents):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    together = latents([7, 8, 7 + (1 << 32), 9])
    assert torch.equal(before, torch.get_rng_state())
    assert together.shape == (4, *latents.shape)
    assert together.dtype == torch.float32
    assert torch.allclose(latents([8]), together[1:2], atol=1e-6)
    assert torch.equal(latents([7, 8, 7 + (1 << 32), 9]), together)
    assert len({tuple(row.flatten().tolist()) for row in together}) > 1


def test_mixture_has_its_shares_means_and_covariances():
    made = mixture()
    drawn = made(MANY)
    nearest = torch.cdist(drawn, made.means).argmin(1)
    assert torch.allclose(nearest.bincount() / len(MANY), made.weights, atol=0.03)
    for component in range(3):
        rows = drawn[nearest == component]
        covariance = made.factors[component] @ made.factors[component].T
        assert torch.allclose(rows.mean(0), made.means[component], atol=0.15)
        assert torch.allclose(rows.T.cov(), covariance, atol=0.4)


def test_sphere():
    drawn = SphereLatents(4)(MANY)
    assert torch.allclose(drawn.norm(dim=1), torch.ones(len(MANY)), atol=1e-5)
    assert drawn.mean(0).abs().max() < 0.05


@pytest.mark.filterwarnings("ignore:.*does not define `arg_constraints`")
@pytest.mark.parametrize("riemannian", [False, True])
@pytest.mark.parametrize("curvature", [1.0, 0.6])
def test_ball_follows_pythaes_distributions(riemannian, curvature):
    made = BallLatents(3, curvature, 0.8, riemannian)
    ours = made(MANY).norm(dim=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind = RiemannianNormal if riemannian else WrappedNormal
        loc, scale = torch.zeros(1, 3), torch.full((1, 1), 0.8)
        theirs = kind(loc, scale, PoincareBall(3, curvature)).sample(torch.Size([len(MANY)])).reshape(-1, 3).norm(dim=1)
    at = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    assert torch.allclose(ours.quantile(at), theirs.quantile(at), atol=0.025)
    assert ours.max() < curvature**-0.5


def test_the_force_is_the_gradient_of_the_density():
    made = manifold()
    z = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    density, force = made.log_density(z)
    weights = torch.exp(-(torch.cdist(z, made.centroids.double()) ** 2) / 0.8**2)
    metric = (weights[:, :, None, None] * made.matrices.double()).sum(1) + 0.05 * torch.eye(3)
    expected = metric.det().sqrt().log()
    assert torch.allclose(density, expected)
    assert torch.allclose(force, torch.autograd.grad(expected.sum(), z)[0], atol=1e-8)


def test_chains_reach_the_density_of_the_manifold():
    """One dimension, where the normalised density can be tabulated: two modes of different volume."""
    made = ManifoldLatents(2, 1, temperature=0.7, regularization=1e-4, steps=60, leapfrog_steps=8, step_size=0.15)
    made.matrices.copy_(torch.tensor([[[9.0]], [[1.0]]]))
    made.centroids.copy_(torch.tensor([[-0.6], [0.6]]))
    drawn = made(MANY)[:, 0].numpy()
    grid = np.linspace(-4, 4, 4001)
    density = np.exp(made.log_density(torch.from_numpy(grid)[:, None])[0].numpy())
    cumulative = np.cumsum(density) / density.sum()
    inside = np.sort(drawn[np.abs(drawn) < 4])
    assert len(inside) > 0.97 * len(drawn)  # the rest escapes where the density is flat
    gap = np.abs(np.interp(inside, grid, cumulative) - np.linspace(0, 1, len(inside))).max()
    assert gap < 0.05


def test_codes_follow_the_network():
    """A network that was trained on four planes draws these planes, equally often."""
    torch.manual_seed(0)
    made = CodeLatents((2, 3), 5, 2, width=16, depth=2)
    planes = torch.tensor([[[0, 1, 2], [3, 4, 0]], [[4, 4, 4], [0, 0, 0]], [[1, 2, 3], [1, 2, 3]], [[2] * 3, [1] * 3]])
    made.book.copy_(torch.arange(10.0).reshape(5, 2))
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    for _ in range(150):
        loss = made.loss(planes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = made(range(400))
    match = (drawn[:, None] == made.latents(planes)[None]).flatten(2).all(2)
    assert match.any(1).float().mean() > 0.95
    assert (match.float().mean(0) - 0.25).abs().max() < 0.07


def test_a_code_does_not_see_itself_nor_what_comes_later():
    made = CodeLatents((3, 4), 6, 2, width=8, depth=2)
    codes = torch.randint(0, 6, (1, 3, 4))
    before = made.network(codes)
    codes[0, 1, 2] = (codes[0, 1, 2] + 1) % 6
    changed = (made.network(codes) != before).any(1)[0]
    place = torch.arange(12).reshape(3, 4)
    assert not changed[place <= 6].any()
    assert changed[place > 6].any()


def test_second_stage_is_its_decoder_with_noise_added():
    made = SecondStageLatents(2, 8, 2)
    with torch.no_grad():
        made.reconstruction.weight.zero_()
        made.reconstruction.bias.fill_(3.0)
        made.gamma_z.fill_(0.5)
    drawn = made(MANY)
    assert torch.allclose(drawn.mean(0), torch.full((2,), 3.0), atol=0.05)
    normal = MultivariateNormal(torch.zeros(2), 0.25 * torch.eye(2))
    assert abs(float(normal.log_prob(drawn - 3).mean()) + float(normal.entropy())) < 0.1
