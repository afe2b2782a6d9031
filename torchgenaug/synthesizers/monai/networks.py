"""Reads and checks the configuration of MONAI's networks: dimensions, channels, sizes, classes, structure."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from torchgenaug.errors import ConfigurationError, missing_extra
from torchgenaug.synthesizers.parts.options import Compute, DiffusionSampler

UNETS = ("DiffusionModelUNet", "SPADEDiffusionModelUNet")
AUTOENCODERS = ("AutoencoderKL", "VQVAE", "SPADEAutoencoderKL")
CONTROLNETS = ("ControlNet",)


def check_class(network: object, role: str, allowed: tuple[str, ...]) -> None:
    """Raises `ConfigurationError` unless `network` is one of MONAI's classes of these names (or derived from one)."""
    try:
        from monai.networks import nets
    except ImportError as error:
        raise missing_extra("MonaiSynthesizer", package="monai", extra="monai") from error
    if not isinstance(network, tuple(getattr(nets, name) for name in allowed)):
        raise ConfigurationError(
            f"`{role}` must be a {' or '.join(allowed)} of monai.networks.nets, got a {type(network).__module__}."
            f"{type(network).__name__}. Networks of diffusers belong to DiffusersSynthesizer, GANs and decoders to "
            "ModuleSynthesizer."
        )


def check_unsupported(sampler: DiffusionSampler, compute: Compute) -> None:
    """Raises `ConfigurationError` where an option is set that networks and schedulers of MONAI do not have."""
    options = {
        "solver": sampler.solver,
        "channels_last": compute.channels_last,
        "compile": compute.compile,
        "cuda_graph": compute.cuda_graph,
    }
    for name, value in options.items():
        if value is not None and value is not False:
            raise ConfigurationError(
                f"`{name}` must be left out for MonaiSynthesizer, got {value!r}. Only synthesizers of diffusers' "
                "networks have it."
            )


def frozen_copy(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy in eval mode without gradients, in which nothing draws random numbers or keeps what it saw."""
    frozen = copy.deepcopy(network).to(device=device, dtype=dtype).eval().requires_grad_(False)
    for module in frozen.modules():
        # With flash attention MONAI passes the dropout rate on in eval mode too: attention would be random.
        for name, off in (("dropout_rate", 0.0), ("save_attn", False)):
            if hasattr(module, name):
                setattr(module, name, off)
        # Recomputing activations serves training only.
        for name in ("use_checkpoint", "use_checkpointing"):
            if hasattr(module, name):
                setattr(module, name, False)
    # Measured on a CPU: 7-10 % less time for a 2D UNet with attention, nothing for a 3D one.
    if device.type == "cpu" and spatial_dims(network) == 2:
        # (torch's stubs do not know this argument.)
        frozen = frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return frozen


def spatial_dims(network: nn.Module) -> int:
    """The dimensions of its convolutions: 2 or 3 (or 1)."""
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d))
    return next(convolutions).weight.ndim - 2


def checked_size(size: Sequence[int], unet: nn.Module) -> tuple[int, ...]:
    """`size` as a tuple; raises `ConfigurationError` unless it has a positive length for each dimension of `unet`."""
    dims = spatial_dims(unet)
    if dims not in (2, 3):
        raise ConfigurationError(f"`unet` must be 2D or 3D, got spatial_dims={dims}. Use FunctionSynthesizer for it.")
    try:
        lengths = tuple(int(length) for length in size)
    except TypeError:
        lengths = ()
    if len(lengths) != dims or min(lengths) < 1:
        raise ConfigurationError(
            f"`size` must hold {dims} positive lengths for a {dims}D network, got {size!r}. It is the spatial size of "
            f"the images, for example {(64,) * dims}; MONAI's networks do not know it themselves."
        )
    return lengths


def check_divisible(latent: tuple[int, ...], unet: Any, size: tuple[int, ...]) -> None:
    """Raises `ConfigurationError` unless `unet` can halve `latent` at each of its levels."""
    factor = 2 ** (len(unet.block_out_channels) - 1)
    if any(length % factor for length in latent):
        scale = [max(1, round(whole / part)) for whole, part in zip(size, latent, strict=True)]
        near = tuple(
            max(1, math.ceil(part / factor)) * factor * times for part, times in zip(latent, scale, strict=True)
        )
        behind = "" if latent == size else f" (behind the autoencoder: {latent})"
        raise ConfigurationError(
            f"`size` must be halved {len(unet.block_out_channels) - 1} times by the network, got {size}{behind}, which "
            f"is no multiple of {factor}. It could not join its halves. Pad the data and train with size={near}."
        )


def checked_scale_factor(scale_factor: float, autoencoder: nn.Module | None) -> float:
    """A float; raises `ConfigurationError` unless positive and finite, and 1 without an autoencoder."""
    if not (isinstance(scale_factor, int | float) and math.isfinite(scale_factor) and scale_factor > 0):
        raise ConfigurationError(
            f"`scale_factor` must be positive and finite, got {scale_factor!r}. It is 1 / standard deviation of the "
            "latents in training."
        )
    if autoencoder is None and scale_factor != 1:
        raise ConfigurationError(
            f"`scale_factor` must be 1 without an autoencoder, got {scale_factor}. It scales latents. Did you forget "
            "`autoencoder`?"
        )
    return float(scale_factor)


def latent_shape(unet: Any, autoencoder: nn.Module | None, size: tuple[int, ...]) -> tuple[int, ...]:
    """(channels, *spatial) of what is denoised: latents of images of `size`, or images themselves.

    Raises:
        ConfigurationError: an autoencoder of other dimensions or channels, or one that cannot encode such images.
    """
    if autoencoder is None:
        return (int(unet.out_channels), *size)
    if spatial_dims(autoencoder) != len(size):
        raise ConfigurationError(
            f"`autoencoder` must be {len(size)}D, as `unet` is, got one of {spatial_dims(autoencoder)} dimensions. "
            "Use the autoencoder that the diffusion model was trained with."
        )
    dtype = next(autoencoder.parameters()).dtype
    images = torch.empty((1, input_channels(autoencoder), *size), device="meta", dtype=dtype)
    try:
        encoded = shape_of(autoencoder, "encode", images)[1:]
    except Exception as error:
        raise ConfigurationError(
            f"`size` must be one that `autoencoder` can encode, got {size}, which fails with: {error!r}. "
            "Use the size that it was trained on."
        ) from error
    if encoded[0] != unet.out_channels:
        raise ConfigurationError(
            f"`autoencoder` must have latents of {unet.out_channels} channels, as `unet` makes them, got one of "
            f"{encoded[0]}. Use the autoencoder that the diffusion model was trained with."
        )
    return encoded


def input_channels(autoencoder: nn.Module) -> int:
    """Channels of the images that it encodes."""
    encoder: Any = autoencoder.encoder
    convolutions = (module for module in encoder.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d))
    return next(convolutions).in_channels


def label_channels_of(network: nn.Module) -> int | None:
    """Classes of the segmentation that a SPADE network or decoder wants, None for another network."""
    count: int | None = getattr(network, "label_nc", getattr(getattr(network, "decoder", None), "label_nc", None))
    return count


def context_size(network: nn.Module) -> int | None:
    """Length of the vectors that its cross-attention reads, None without."""
    for module in network.modules():
        attention: Any = getattr(module, "attn2", None)
        if attention is not None and getattr(network, "with_conditioning", False):
            return int(attention.to_k.in_features)
    return None


def shape_of(network: nn.Module, method: str, *inputs: Any) -> tuple[int, ...]:
    """The shape of what a method returns (of the first of several tensors), found without computing anything."""
    call = _Call(network, method)
    tensors = {**dict(call.named_parameters()), **dict(call.named_buffers())}
    with torch.no_grad(), _SkippedNorms():
        result = torch.func.functional_call(call, {name: tensor.to("meta") for name, tensor in tensors.items()}, inputs)
    return tuple((result[0] if isinstance(result, tuple) else result).shape)


class _SkippedNorms(TorchFunctionMode):
    """Group norms change no shape, and take most of a run on shapes: torch composes each of twenty operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func is nn.functional.group_norm:
            images, groups, weight = args[0], args[1], options.get("weight")
            if weight is None or (images.shape[1] == len(weight) and len(weight) % groups == 0):
                return images
        return func(*args, **options)


class _Call(nn.Module):
    """A method of a network as a module of its own."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *inputs: Any) -> Any:
        return getattr(self.network, self.method)(*inputs)
