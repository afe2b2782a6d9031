"""Networks on prompts, a UNet and at most a ControlNet: their configuration, checked, and how they are called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.types import FieldSpec

MODES = ("text", "image", "inpaint")
_OTHER_NAMES = {"text2img": "text", "txt2img": "text", "img2img": "image", "inpainting": "inpaint"}


class PromptedDenoiser(nn.Module):
    """A UNet and the ControlNet that may steer it, as one network."""

    def __init__(self, unet: nn.Module, controlnet: nn.Module | None, channels: int, control_scale: float) -> None:
        super().__init__()
        self.unet, self.controlnet = unet, controlnet
        self.channels, self.control_scale = channels, control_scale

    def forward(
        self, latents: Tensor, timestep: Tensor, embeddings: Tensor, guidance: Tensor | None, control: Tensor | None
    ) -> Tensor:
        """The UNet's output; `latents` may carry further channels, which the ControlNet does not see."""
        down = mid = None
        if self.controlnet is not None:
            down, mid = self.controlnet(
                latents[:, : self.channels],
                timestep,
                encoder_hidden_states=embeddings,
                controlnet_cond=control,
                conditioning_scale=self.control_scale,
                return_dict=False,
            )
        output: Tensor = self.unet(
            latents,
            timestep,
            encoder_hidden_states=embeddings,
            timestep_cond=guidance,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]
        return output


def denoise(
    denoiser: nn.Module,
    latents: Tensor,
    timestep: Tensor,
    embeddings: Tensor,
    guidance: Tensor | None,
    control: Tensor | None,
) -> Tensor:
    """One call of a `PromptedDenoiser`."""
    output: Tensor = denoiser(latents, timestep, embeddings, guidance, control)
    return output


def checked_mode(mode: str, unet: Any, channels: int) -> str:
    """The mode by its own name: "img2img" is "image".

    Raises:
        ConfigurationError: no such mode, or the input channels of `unet` are those of another one.
    """
    mode = _OTHER_NAMES.get(mode, mode)
    if mode not in MODES:
        raise ConfigurationError(
            f"`mode` must be one of {', '.join(MODES)}, got {mode!r}. 'text' starts at noise, 'image' at the condition "
            "source, 'inpaint' repaints the condition mask in it."
        )
    wanted = unet.config.in_channels
    possible = (channels, 2 * channels + 1) if mode == "inpaint" else (channels,)
    if wanted not in possible:
        raise ConfigurationError(
            f"`unet.config.in_channels` must be {' or '.join(map(str, possible))} in mode {mode!r} with latents of "
            f"{channels} channels, got {wanted}. A network that also takes mask and masked image ({2 * channels + 1} "
            "channels) needs mode='inpaint'; otherwise, use the autoencoder that it was trained with."
        )
    return mode


def check_unet(unet: nn.Module, vae: nn.Module) -> int:
    """The channels of the latents.

    Raises:
        ConfigurationError: other classes, or a network that needs more than prompts.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel

    if not isinstance(unet, UNet2DConditionModel):
        raise ConfigurationError(
            f"`unet` must be a diffusers.UNet2DConditionModel, got {type(unet).__name__}. UNet2DModel belongs to "
            "DiffusersSynthesizer, transformers on classes to DiTSynthesizer."
        )
    if not isinstance(vae, AutoencoderKL):
        raise ConfigurationError(
            f"`vae` must be a diffusers.AutoencoderKL, got {type(vae).__name__}. Use the autoencoder that the network "
            "was trained with."
        )
    config: Any = unet.config
    for name in ("addition_embed_type", "class_embed_type", "num_class_embeds"):
        if config.get(name) is not None:
            raise ConfigurationError(
                f"`unet.config.{name}` must be None, got {config[name]!r}. This network needs more than prompts (as "
                "Stable Diffusion XL does), and would be sampled without it. Wrap its pipeline as FunctionSynthesizer."
            )
    channels = int(config.out_channels)
    latent = vae.config.latent_channels
    if latent != channels:
        raise ConfigurationError(
            f"`vae` must decode latents of {channels} channels, as `unet` makes them, got one for {latent}. Use the "
            "autoencoder that the network was trained with."
        )
    return channels


def embedding_size(unet: Any) -> int:
    """The length of one token's embedding that `unet` reads."""
    config = unet.config
    if config.get("encoder_hid_dim") is not None:
        return int(config.encoder_hid_dim)
    size = config.cross_attention_dim
    sizes = {int(each) for each in (size if isinstance(size, Sequence) else [size])}
    if len(sizes) > 1:
        raise ConfigurationError(
            f"`unet.config.cross_attention_dim` must be one number, got {tuple(size)}. Prompts have one size of "
            "embeddings. Wrap its pipeline as FunctionSynthesizer."
        )
    return sizes.pop()


def checked_sizes(unet: Any, vae: Any, size: Sequence[int] | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the images and of the latents.

    Raises:
        ConfigurationError: a size that the networks cannot halve often enough, or none.
    """
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if size is None:
        latent = unet.config.sample_size
        if latent is None:
            raise ConfigurationError(
                "`size` must be given for a `unet` that does not state the size it was trained on, got None. For "
                "example size=(256, 256)."
            )
        given = [side * factor for side in ((latent, latent) if isinstance(latent, int) else latent)]
    else:
        given = list(size) if isinstance(size, Sequence) else []
    halved = factor * 2 ** (len(unet.config.down_block_types) - 1)
    whole = all(isinstance(side, int) and side > 0 and side % halved == 0 for side in given)
    if len(given) != 2 or not whole:
        raise ConfigurationError(
            f"`size` must be (height, width), multiples of {halved}, got {given if size is None else size!r}. The "
            "networks halve it that often. Pad the images."
        )
    height, width = given
    return (height, width), (height // factor, width // factor)


def check_controlnet(
    controlnet: Any, unet: Any, latent_size: tuple[int, int], size: tuple[int, int], channels: int
) -> None:
    """Raises `ConfigurationError` unless `controlnet` fits `unet` and reads images of `size`."""
    from diffusers import ControlNetModel

    if not isinstance(controlnet, ControlNetModel):
        raise ConfigurationError(
            f"`controlnet` must be a diffusers.ControlNetModel, got {type(controlnet).__name__}. Several at once are "
            "not sampled here."
        )
    config, other = controlnet.config, unet.config
    same = ("block_out_channels", "layers_per_block", "cross_attention_dim")
    differing = [name for name in same if _plain(config[name]) != _plain(other[name])]
    if differing or len(config.down_block_types) != len(other.down_block_types) or config.in_channels != channels:
        raise ConfigurationError(
            f"`controlnet` must be built like `unet`, got another {', '.join(differing) or 'number of blocks/channels'}"
            ". Its residuals could not be added. Make it with ControlNetModel.from_unet(unet)."
        )
    if config.global_pool_conditions:
        raise ConfigurationError(
            "`controlnet.config.global_pool_conditions` must be False, got True. Such a network steers the guided half "
            "alone, which is not sampled here. Wrap its pipeline as FunctionSynthesizer."
        )
    factor = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
    if tuple(side * factor for side in latent_size) != size:
        raise ConfigurationError(
            f"`controlnet` must shrink its image as `vae` does, by {size[0] // latent_size[0]}, got {factor}. Build it "
            "with as many conditioning_embedding_out_channels as the autoencoder has blocks."
        )


def checked_control(
    control: Mapping[str, FieldSpec] | None, controlnet: Any, size: tuple[int, int], mode: str
) -> tuple[str, FieldSpec] | None:
    """Name and spec of the condition that the ControlNet reads; None without one.

    Raises:
        ConfigurationError: one without a ControlNet, another size or number of channels, no range, or a name in use.
    """
    if controlnet is None:
        if control is not None:
            raise ConfigurationError(f"`control` must be None without a `controlnet`, got {control}. Nothing reads it.")
        return None
    channels = int(controlnet.config.conditioning_channels)
    if control is None:
        return ("source" if mode == "text" else "control"), FieldSpec((channels, *size), value_range=(0, 1))
    if not isinstance(control, Mapping) or len(control) != 1 or not isinstance(next(iter(control.values())), FieldSpec):
        raise ConfigurationError(
            f"`control` must map one name to a FieldSpec, got {control!r}. For example "
            f"{{'source': FieldSpec({(channels, *size)}, value_range=(0, 1))}}."
        )
    ((name, spec),) = control.items()
    used = {"text": (), "image": ("source",), "inpaint": ("source", "mask")}[mode]
    if name in (*used, "image", "prompt_embeds"):
        raise ConfigurationError(
            f"`control` must have another name than {name!r} in mode {mode!r}, which that already means. Name it "
            "'control'."
        )
    limits = spec.value_range
    ways = {1, channels} if spec.kind != "label_map" else {1}
    if limits is None or spec.kind == "scalar" or spec.shape[1:] != size or spec.shape[0] not in ways:
        raise ConfigurationError(
            f"`control` must be an image or label map of {' or '.join(map(str, sorted(ways)))} channels and the size "
            f"{size} with a value range, got {spec}. The network reads {channels} channels in [0, 1]."
        )
    return name, spec


def guidance_embedding(scale: float, size: int) -> Tensor:
    """The guidance scale as an input of a network distilled with guidance: (1, size) float32.

    Sines and cosines of 1000 (s - 1): Luo et al. (2023), Latent consistency models, section 4.2, as in diffusers'
    ``get_guidance_scale_embedding``.
    """
    half = size // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = 1000.0 * (torch.tensor(scale) - 1.0) * rates
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()]), (0, size % 2))[None]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
