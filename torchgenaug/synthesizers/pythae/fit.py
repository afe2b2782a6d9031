"""`fit_latents`: distributions of latents, fitted to encoded training images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.blueprints import build_network
from torchgenaug.synthesizers.pythae.latents import code_book, manifold, mixture

_MOST_CENTROIDS, _COMPONENTS = 500, 10
_ENCODED_AT_ONCE = 64


def fit_latents(
    model: Any, images: Tensor, *, components: int | None = None, steps: int = 500, seed: int = 0
) -> nn.Module:
    """Latents fitted to encoded images: what an autoencoder without a prior needs, and what makes many others better.

    An RHVAE gets its manifold (`ManifoldLatents`, whose centroids are encoded images), a VQ-VAE an autoregressive
    network of codes (`CodeLatents`, trained here), any other model a mixture of Gaussians (`MixtureLatents`).

    Args:
        model: a trained `PythaeNetwork` or pythae model.
        images: (count, channels, *spatial) in [0, 1]: training images only.
        components: Gaussians of the mixture (10), or most centroids of the manifold (500: the time to sample grows with
            it).
        steps: steps of training, for a VQ-VAE.
        seed: of the choice of centroids, of the mixture's start or of the training.

    Returns:
        A module that `build_network` can describe: pass it as `sampler`.

    Raises:
        ConfigurationError: images that are not floating point in [0, 1].

    References:
        Ghosh, Sajjadi, Vergari, Black, Schölkopf (2020). From variational to deterministic autoencoders. ICLR,
        section 4: the mixture ("ex-post density estimation").
    """
    if not isinstance(images, Tensor) or not images.is_floating_point() or images.ndim < 4 or len(images) == 0:
        raise ConfigurationError("`images` must be a floating-point tensor (count, channels, *spatial), not empty.")
    low, high = (float(limit) for limit in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise ConfigurationError(
            f"`images` must lie in [0, 1], got {low:g} to {high:g}. pythae works there. Map them: "
            "(images - low) / (high - low)."
        )
    inner = getattr(model, "model", model)
    training = inner.training
    inner.eval()
    try:
        if type(inner).__name__ == "RHVAE":
            return _fitted_manifold(inner, images, components or _MOST_CENTROIDS, seed)
        if type(inner).__name__ == "VQVAE":
            return _fitted_codes(inner, images, steps, seed)
        return _fitted_mixture(_encoded(inner, images).flatten(1), components or _COMPONENTS, seed)
    finally:
        inner.train(training)


@torch.no_grad()
def _encoded(model: Any, images: Tensor, what: str = "embedding") -> Tensor:
    device = next(model.parameters()).device
    source = model.metric if what == "L" else model.encoder
    return torch.cat([source(part.to(device))[what].float() for part in torch.split(images, _ENCODED_AT_ONCE)])


def _fitted_mixture(latents: Tensor, components: int, seed: int) -> nn.Module:
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(min(components, len(latents)), random_state=seed, max_iter=2000)
    fitted.fit(latents.cpu().double().numpy())
    return mixture(fitted.weights_, fitted.means_, np.linalg.cholesky(fitted.covariances_))


def _fitted_manifold(model: Any, images: Tensor, most: int, seed: int) -> nn.Module:
    chosen = np.sort(seeding.permutation(seed, len(images))[:most])
    kept = images[torch.from_numpy(chosen)]
    factors = _encoded(model, kept, "L")
    return manifold(model, factors @ factors.transpose(1, 2), _encoded(model, kept))


def _fitted_codes(model: Any, images: Tensor, steps: int, seed: int) -> nn.Module:
    book = code_book(model)
    with torch.random.fork_rng(devices=[] if book.device.type == "cpu" else [book.device]):
        torch.manual_seed(seed)
        codes = torch.cat([_codes(model, part.to(book.device)) for part in torch.split(images, _ENCODED_AT_ONCE)])
        flat = model.encoder(images[:1].to(book.device)).embedding.ndim == 2
        latents: Any = build_network(
            "torchgenaug:CodeLatents",
            plane=list(codes.shape[1:]),
            num_codes=len(book),
            code_dim=book.shape[1],
            flat=flat,
        ).to(book.device)
        latents.book.copy_(book)
        optimizer = torch.optim.AdamW(latents.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=max(steps, 1))
        for _ in range(steps):
            loss = latents.loss(codes[torch.randint(len(codes), (_ENCODED_AT_ONCE,), device=codes.device)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    made: nn.Module = latents
    return made


@torch.no_grad()
def _codes(model: Any, images: Tensor) -> Tensor:
    """Planes of codes (batch, rows, columns) int64."""
    embedding = model.encoder(images).embedding
    plane = embedding.reshape(len(images), 1, 1, -1) if embedding.ndim == 2 else embedding
    indices: Tensor = model.quantizer(plane.permute(0, 2, 3, 1)).quantized_indices
    return indices.reshape(len(images), *plane.permute(0, 2, 3, 1).shape[1:3])
