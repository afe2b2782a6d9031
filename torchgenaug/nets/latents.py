"""Latent distributions as modules: what is drawn is a function of each sample's own seed, fitted numbers are buffers.

So that a distribution is saved, moved and described like any other network (see `build_network`). pythae's samplers,
which these replace, know one seed only: torch's global one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from torchgenaug import seeding

_GRID = 4096  # points at which the density of the radius is tabulated


class NormalLatents(nn.Module):
    """Standard normal latents: the prior of most variational autoencoders.

    Args:
        shape: shape of one latent.
    """

    place: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(int(size) for size in shape)
        self.register_buffer("place", torch.zeros(()), persistent=False)

    def forward(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), *shape) float32."""
        return noise(seeds, self.shape, self.place)


class SphereLatents(nn.Module):
    """Latents uniform on the unit sphere: the prior of the S-VAE.

    Args:
        latent_dim: length of a latent.

    References:
        Davidson, Falorsi, De Cao, Kipf, Tomczak (2018). Hyperspherical variational auto-encoders. UAI.
    """

    place: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.shape = (int(latent_dim),)
        self.register_buffer("place", torch.zeros(()), persistent=False)

    def forward(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), latent_dim) float32 of length 1."""
        directions = noise(seeds, self.shape, self.place)
        lengths: Tensor = directions.norm(dim=1, keepdim=True)
        return directions / lengths


class BallLatents(nn.Module):
    """Normal latents of the Poincaré ball around its origin: the priors of the Poincaré VAE.

    A direction is uniform. The hyperbolic distance r from the origin is ``scale · |n|``, n standard normal (wrapped
    normal), or has the density ``exp(-r² / 2 scale²) · sinh(√c r)^(d-1)`` (Riemannian normal); the point lies at
    ``tanh(√c r / 2) / √c``.

    Args:
        latent_dim: length of a latent, d.
        curvature: c > 0, the negative curvature of the ball.
        scale: standard deviation.
        riemannian: the Riemannian instead of the wrapped normal distribution.

    References:
        Mathieu, Le Lan, Maddison, Tomioka, Teh (2019). Continuous hierarchical representations with Poincaré
        variational auto-encoders. NeurIPS, section 3 and appendix B.
    """

    place: Tensor

    def __init__(self, latent_dim: int, curvature: float = 1.0, scale: float = 1.0, riemannian: bool = False) -> None:
        super().__init__()
        self.shape, self.curvature, self.scale = (int(latent_dim),), float(curvature), float(scale)
        self.riemannian = bool(riemannian)
        self.register_buffer("place", torch.zeros(()), persistent=False)

    def forward(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), latent_dim) float32 of length below 1 / √c."""
        directions = noise(seeds, self.shape, self.place)
        lengths: Tensor = directions.norm(dim=1, keepdim=True)
        if self.riemannian:
            drawn = seeding.uniform(seeding.derive(list(seeds), seeding.STEP_NOISE), 1)
            radii = torch.from_numpy(np.interp(drawn, *self._cumulative())).to(lengths)
        else:
            radii = self.scale * lengths
        root = math.sqrt(self.curvature)
        return torch.tanh(root * radii / 2) / root * directions / lengths

    def _cumulative(self) -> tuple[np.ndarray, np.ndarray]:
        """The distribution function of the radius, and where it was tabulated."""
        dim, root = self.shape[0], math.sqrt(self.curvature)
        # log sinh grows by √c per unit: the mode moves to (d-1) √c scale²; ten deviations hold everything.
        radii = np.linspace(0, (dim - 1) * root * self.scale**2 + 10 * self.scale, _GRID)[1:]
        log_sinh = root * radii + np.log1p(-np.exp(-2 * root * radii)) - math.log(2)
        log_density = -(radii**2) / (2 * self.scale**2) + (dim - 1) * log_sinh
        cumulative = np.cumsum(np.exp(log_density - log_density.max()))
        return np.concatenate([[0], cumulative / cumulative[-1]]), np.concatenate([[0], radii])


class MixtureLatents(nn.Module):
    """Latents of a mixture of Gaussians: fitted to encoded images, or the prior of a VAMP.

    Args:
        components: number of Gaussians.
        latent_dim: length of a latent.

    Attributes:
        weights: (components,) share of each.
        means: (components, latent_dim).
        factors: (components, latent_dim, latent_dim) lower triangular: covariance = factor · factorᵀ.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int, latent_dim: int) -> None:
        super().__init__()
        self.shape = (int(latent_dim),)
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, latent_dim))
        self.register_buffer("factors", torch.eye(latent_dim).repeat(components, 1, 1))

    def forward(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), latent_dim) float32."""
        chosen = choose(seeds, self.weights)
        spread = self.factors[chosen].float() @ noise(seeds, self.shape, self.means).unsqueeze(2)
        return self.means[chosen].float() + spread.squeeze(2)


def noise(seeds: Sequence[int], shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal noise, a function of each seed alone, on the device of `like`."""
    return seeding.normal(seeding.derive(list(seeds), seeding.NOISE), shape, device=like.device)


def choose(seeds: Sequence[int], weights: Tensor) -> Tensor:
    """One index per seed, in proportion to `weights` (any scale): (len(seeds),) int64 on their device."""
    edges = np.cumsum(weights.double().cpu().numpy())
    drawn = seeding.uniform(seeding.derive(list(seeds), seeding.STEP_NOISE), 1)[:, 0]
    chosen = np.searchsorted(edges[:-1] / edges[-1], drawn, side="right")
    return torch.from_numpy(chosen.astype(np.int64)).to(weights.device)
