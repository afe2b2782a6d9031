"""Reads and checks the configuration of a diffusion transformer of diffusers, and calls it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError


def denoise(transformer: nn.Module, latents: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
    """One call of the network: (batch, channels, size, size), a 0-d timestep, int64 labels (batch,)."""
    # It takes one timestep a sample, and broadcasts none.
    times = timestep.expand(latents.shape[0])
    output: Tensor = transformer(latents, timestep=times, class_labels=labels, return_dict=False)[0]
    return output


def checked_shapes(transformer: nn.Module) -> tuple[tuple[int, int, int], int]:
    """(channels, size, size) of what the network denoises, and its output channels.

    Raises:
        ConfigurationError: another network, a size that its patches do not fill, or channels that do not fit.
    """
    from diffusers import DiTTransformer2DModel, Transformer2DModel

    config: Any = getattr(transformer, "config", {})
    known = isinstance(transformer, DiTTransformer2DModel | Transformer2DModel)
    if not known or config.norm_type != "ada_norm_zero" or config.patch_size is None:
        raise ConfigurationError(
            f"`transformer` must be a diffusers.DiTTransformer2DModel, got {type(transformer).__name__}"
            f"{f' with norm_type={config.norm_type!r}' if known else ''}. Networks on prompts belong to "
            "StableDiffusionSynthesizer, UNet2DModel to DiffusersSynthesizer; wrap others as FunctionSynthesizer."
        )
    channels, size, patch = int(config.in_channels), int(config.sample_size), int(config.patch_size)
    if size % patch:
        raise ConfigurationError(
            f"`transformer.config.sample_size` must be a multiple of patch_size={patch}, got {size}. The patches at "
            f"the border would be lost. Train it with sample_size={-(-size // patch) * patch}."
        )
    out_channels = int(config.out_channels or channels)
    if out_channels not in (channels, 2 * channels):
        raise ConfigurationError(
            f"`transformer.config.out_channels` must be {channels}, or {2 * channels} with variances, for "
            f"{channels} input channels, got {out_channels}. The result could not be added to the latents."
        )
    return (channels, size, size), out_channels
