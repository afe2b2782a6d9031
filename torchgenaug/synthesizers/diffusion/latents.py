"""Between images and the latents of a diffusion model: both ways through its autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.synthesizers.diffusion.networks import to_vae_scale
from torchgenaug.synthesizers.parts.checks import propagate_nonfinite


def decoded(latents: Tensor, vae: nn.Module | None) -> Tensor:
    """Images in [-1, 1], float32, of the latents of a diffusion model; `latents` themselves without a `vae`."""
    if vae is None:
        return latents
    ready = to_vae_scale(latents, vae).to(next(vae.parameters()).dtype)
    images: Tensor = vae.decode(ready, return_dict=False)[0]  # type: ignore[operator]
    return propagate_nonfinite(images.float(), latents)


def encoded(images: Tensor, vae: nn.Module) -> Tensor:
    """Latents of a diffusion model, float32, of images in [-1, 1]: the mean of the posterior.

    diffusers' pipelines draw from that posterior, whose spread is small against the noise of any strength; its mean
    needs no random numbers.

    Args:
        images: (batch, channels, height, width).
        vae: `AutoencoderKL`.
    """
    made: Any = vae.encode(images.to(next(vae.parameters()).dtype))  # type: ignore[operator]
    return from_vae_scale(made.latent_dist.mode().float(), vae)


def from_vae_scale(latents: Tensor, vae: nn.Module) -> Tensor:
    """Latents as `vae` encodes them, in the scale of the diffusion model: the inverse of `to_vae_scale`."""
    config: Any = vae.config
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        mean, std = (torch.tensor(values, device=latents.device).reshape(1, -1, 1, 1) for values in (mean, std))
        return (latents - mean) * float(config.scaling_factor) / std
    return (latents - float(config.get("shift_factor") or 0.0)) * float(config.scaling_factor)
