"""`ManifoldLatents`: latents of a Riemannian VAE, where its metric says that data lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from torchgenaug import seeding
from torchgenaug.nets.latents import choose


class ManifoldLatents(nn.Module):
    """Latents with density ∝ √det G⁻¹(z), by Hamiltonian Monte Carlo, a chain of its own for each seed.

    The inverse metric is ``G⁻¹(z) = Σ Mᵢ exp(-|cᵢ - z|² / T²) + λ I`` over the encoded training images cᵢ: it is large
    near them, so that samples stay where the decoder has seen something, even with very few images. Each chain begins
    at a centroid; momenta, choice and acceptance are functions of (seed, step). Computed in float64, because a chain
    multiplies rounding errors: otherwise a sample would depend on its batch.

    Where pythae's sampler differs: its force is ``G Mᵢ (cᵢ - z)`` where the gradient has the trace ``tr(G Mᵢ) (cᵢ -
    z)`` (the acceptance step makes up for it, at the price of rejections), and it adds 1e-10 to the density.

    Args:
        centroids: number of centroids.
        latent_dim: length of a latent.
        temperature: T.
        regularization: λ.
        steps: accepted or rejected moves of a chain. The time to sample is proportional to steps · leapfrog_steps.
        leapfrog_steps: of one move.
        step_size: of one leapfrog step.

    Attributes:
        matrices: (centroids, latent_dim, latent_dim), Mᵢ.
        centroids: (centroids, latent_dim), cᵢ.

    References:
        Chadebec, Thibeau-Sutre, Burgos, Allassonnière (2022). Data augmentation in high dimensional low sample size
        setting using a geometry-based variational autoencoder. IEEE TPAMI 45, 2879, equations 9 and 11, algorithm 2.
        doi:10.1109/TPAMI.2022.3185773
    """

    matrices: Tensor
    centroids: Tensor

    def __init__(
        self,
        centroids: int,
        latent_dim: int,
        temperature: float = 1.5,
        regularization: float = 0.01,
        steps: int = 100,
        leapfrog_steps: int = 15,
        step_size: float = 0.03,
    ) -> None:
        super().__init__()
        self.shape = (int(latent_dim),)
        self.temperature, self.regularization = float(temperature), float(regularization)
        self.steps, self.leapfrog_steps, self.step_size = int(steps), int(leapfrog_steps), float(step_size)
        self.register_buffer("matrices", torch.eye(latent_dim).repeat(centroids, 1, 1))
        self.register_buffer("centroids", torch.zeros(centroids, latent_dim))

    @torch.no_grad()
    def forward(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), latent_dim) float32."""
        start = choose(seeds, torch.ones(len(self.centroids), device=self.centroids.device))
        z = self.centroids[start].double()
        accept = torch.from_numpy(seeding.uniform(seeding.derive(list(seeds), seeding.PLAN), self.steps)).to(z)
        density, force = self.log_density(z)
        for step in range(self.steps):
            keys = seeding.derive(np.asarray(list(seeds), np.uint64), seeding.NOISE, step)
            momentum = seeding.normal(keys, self.shape, device=z.device).double()
            moved, new_density, new_force, end = self._leapfrog(z, momentum, force)
            gain = new_density - density + (momentum.square().sum(1) - end.square().sum(1)) / 2
            taken = accept[:, step].log() < gain
            z = torch.where(taken[:, None], moved, z)
            density, force = torch.where(taken, new_density, density), torch.where(taken[:, None], new_force, force)
        return z.float()

    def log_density(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of √det G⁻¹ (batch,) and its gradient (batch, latent_dim) at (batch, latent_dim) float64."""
        dim = self.shape[0]
        matrices, centroids = self.matrices.double().flatten(1), self.centroids.double()
        distances = (z.square().sum(1, keepdim=True) - 2 * z @ centroids.T + centroids.square().sum(1)).clamp_min_(0)
        weights = torch.exp(-distances / self.temperature**2)
        eye = torch.eye(dim, dtype=z.dtype, device=z.device)
        inverse_metric = (weights @ matrices).reshape(-1, dim, dim) + self.regularization * eye
        factor = torch.linalg.cholesky(inverse_metric)
        log_density = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        traces = torch.cholesky_inverse(factor).flatten(1) @ matrices.T
        pull = weights * traces
        force = (pull @ centroids - z * pull.sum(1, keepdim=True)) / self.temperature**2
        return log_density, force

    def _leapfrog(self, z: Tensor, momentum: Tensor, force: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        density = torch.empty(0)
        for _ in range(self.leapfrog_steps):
            momentum = momentum + self.step_size / 2 * force
            z = z + self.step_size * momentum
            density, force = self.log_density(z)
            momentum = momentum + self.step_size / 2 * force
        return z, density, force, momentum
