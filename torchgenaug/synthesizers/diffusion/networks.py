"""Reads and checks the configuration of a diffusers network: shapes, classes, scale of the latents."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.compute import with_layout
from torchgenaug.synthesizers.parts.guidance import checked_classes


def checked_latent_shape(unet: nn.Module, scheduler: Any, *, conditioned: bool = False) -> tuple[int, ...]:
    """(channels, height, width) of what the network denoises; it may take further channels, those of a source image.

    Args:
        unet: the network.
        scheduler: says whether the network predicts variances, too.
        conditioned: whether there is a source image for certain. Otherwise as many outputs as inputs are a network
            without one, which predicts no variances.

    Raises:
        ConfigurationError: another class than `UNet2DModel`, no ``sample_size``, one that the network cannot halve
            often enough, or output channels that do not fit those of the input.
    """
    from diffusers import UNet2DModel

    if not isinstance(unet, UNet2DModel):
        raise ConfigurationError(
            f"`unet` must be a diffusers.UNet2DModel, got {type(unet).__name__}. "
            "Wrap another network as ModuleSynthesizer, or its whole sampling as FunctionSynthesizer."
        )
    config: Any = unet.config
    if config.sample_size is None:
        raise ConfigurationError(
            "`unet` must state the size that it was trained on, got sample_size=None. "
            "Set it with unet.register_to_config(sample_size=64)."
        )
    size = config.sample_size
    spatial = (int(size), int(size)) if isinstance(size, int) else tuple(int(length) for length in size)
    factor = 2 ** (len(config.down_block_types) - 1)
    if len(spatial) != 2 or any(length < 1 or length % factor for length in spatial):
        raise ConfigurationError(
            f"`unet.config.sample_size` must hold two multiples of {factor} for {len(config.down_block_types)} blocks, "
            f"got {size!r}. The network could not join its halves. Pad the data and train it with "
            f"sample_size={tuple(max(1, math.ceil(length / factor)) * factor for length in spatial)}."
        )
    learned_variance = str(getattr(scheduler, "config", {}).get("variance_type", "")).startswith("learned")
    times = 2 if learned_variance else 1
    channels, rest = divmod(int(config.out_channels), times)
    without_variances = learned_variance and config.out_channels == config.in_channels and not conditioned
    if rest or channels > config.in_channels or without_variances:
        raise ConfigurationError(
            f"`unet.config.out_channels` must be {config.in_channels * times} for {config.in_channels} input channels "
            f"and this scheduler (less with a source image), got {config.out_channels}. Networks that also predict "
            "variances need a scheduler with variance_type='learned_range', others one with 'fixed_small'."
        )
    return (channels, *spatial)


def check_scheduler(scheduler: Any, steps: int) -> None:
    """Raises `ConfigurationError` unless `scheduler` is one of diffusers' and knows at least `steps` noise levels."""
    if not all(hasattr(scheduler, name) for name in ("config", "from_config", "set_timesteps", "step")):
        raise ConfigurationError(
            f"`scheduler` must be a scheduler of diffusers, got {type(scheduler).__name__}. "
            "For example diffusers.DDIMScheduler()."
        )
    limit = scheduler.config.get("num_train_timesteps", math.inf)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= limit:
        raise ConfigurationError(
            f"`steps` must be an integer in [1, {limit}], got {steps!r}. The model knows {limit} noise levels. "
            "50 steps are a common choice for DDIM, 20 for DPM-Solver++."
        )


def checked_class_embeddings(unet: nn.Module, null_class: int | None, guidance_scale: float | None) -> int | None:
    """How many class indices the network knows, the null class included; None for an unconditional one.

    Raises:
        ConfigurationError: guidance without classes or without a null class, a null class out of range, a negative or
            infinite guidance scale.
    """
    config: Any = unet.config
    if config.class_embed_type == "identity":
        return checked_classes(None, null_class, guidance_scale)
    return checked_classes(config.num_class_embeds, null_class, guidance_scale)


def checked_sample_shape(latent_shape: tuple[int, ...], vae: nn.Module | None) -> tuple[int, ...]:
    """(channels, height, width) of a decoded sample; `latent_shape` itself without a `vae`.

    Raises:
        ConfigurationError: another class than `AutoencoderKL` or `VQModel`, or latents of another number of channels.
    """
    if vae is None:
        return latent_shape
    from diffusers import AutoencoderKL, VQModel

    if not isinstance(vae, AutoencoderKL | VQModel):
        raise ConfigurationError(
            f"`vae` must be a diffusers.AutoencoderKL or VQModel, got {type(vae).__name__}. "
            "Wrap another decoder with its diffusion model as FunctionSynthesizer."
        )
    config: Any = vae.config
    channels = config.get("vq_embed_dim") or config.latent_channels
    if channels != latent_shape[0]:
        raise ConfigurationError(
            f"`vae` must decode latents of {latent_shape[0]} channels, as `unet` makes them, got one for {channels}. "
            "Use the autoencoder that the diffusion model was trained with."
        )
    factor = 2 ** (len(config.block_out_channels) - 1)
    return (int(config.out_channels), *(length * factor for length in latent_shape[1:]))


def vae_dtype(vae: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """The dtype that `vae` computes in: float32 where float16 would overflow, by its own configuration."""
    config: Any = vae.config
    return torch.float32 if dtype == torch.float16 and config.get("force_upcast") else dtype


def frozen_copy(net: nn.Module, device: torch.device, dtype: torch.dtype, channels_last: bool | None) -> nn.Module:
    """A copy in eval mode and without gradients; `channels_last` None: on a CPU only.

    Raises:
        ConfigurationError: something is switched on that changes samples and is in neither weights nor configuration.
    """
    if any(getattr(part, "s1", None) is not None for part in getattr(net, "up_blocks", ())):
        raise ConfigurationError(
            "`unet` must be without FreeU, got one with it: neither file nor fingerprint would tell that its samples "
            "are other ones. Call unet.disable_freeu()."
        )
    if getattr(net, "use_tiling", False):
        raise ConfigurationError(
            "`vae` must decode images whole, got one with tiling, whose seams neither file nor fingerprint would tell. "
            "Call vae.disable_tiling(), and make fewer samples at once (batch_size); vae.enable_slicing() may stay."
        )
    # nn.Module's own `to`: the override in diffusers logs a warning about an empty list of modules.
    frozen = nn.Module.to(copy.deepcopy(net), device=device, dtype=dtype).eval().requires_grad_(False)
    if channels_last is None:
        # Measured on a CPU: 8-20 % less time per step for UNets with attention in float32; nothing lost in bfloat16.
        return with_layout(frozen, True) if device.type == "cpu" else frozen
    return with_layout(frozen, channels_last)


def to_vae_scale(latents: Tensor, vae: nn.Module) -> Tensor:
    """Latents of the diffusion model (about unit variance) in the scale that `vae` decodes.

    ``z / scaling_factor + shift_factor``; with per-channel statistics in the configuration
    ``z * std / scaling_factor + mean`` (as in Stable Diffusion XL).
    """
    config: Any = vae.config
    latents = latents / config.scaling_factor
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        mean, std = (torch.tensor(values, device=latents.device).reshape(1, -1, 1, 1) for values in (mean, std))
        return latents * std + mean
    shift = config.get("shift_factor")
    return latents if shift is None else latents + shift
