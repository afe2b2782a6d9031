"""`merge_lora`: a network whose weights have a low-rank adapter (LoRA) added to them.

Hu et al. (2022), "LoRA: Low-rank adaptation of large language models", equation 3: W + (alpha / r) · B A. Merged, the
network is an ordinary one: it samples as fast as before, needs no peft, and its fingerprint is one of its weights.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.diffusion.lora_files import read_adapter

_DOWN = re.compile(r"(?:base_model\.model\.)?(?:unet\.)?(?P<layer>.+)\.lora(?:_A(?:\.default)?|\.down)\.weight")


def merge_lora(network: nn.Module, lora: str | Path | Mapping[str, Tensor], *, scale: float | None = None) -> nn.Module:
    """A copy of `network` with the adapter in its weights.

    Args:
        network: the network that the adapter was trained for, such as the UNet of a Stable Diffusion pipeline.
        lora: a safetensors file as diffusers (``save_lora_weights``) and peft (``save_pretrained``) write it, the
            folder of one, or its tensors: for each layer ``LAYER.lora_A.weight`` (rank, inputs) and
            ``LAYER.lora_B.weight`` (outputs, rank). Keys of a text encoder are refused: prompts are encoded before.
        scale: alpha / rank; default: what the file or the folder says, 1 where it says nothing (alpha equal to the
            rank, as diffusers trains them).

    Raises:
        ConfigurationError: an adapter for another network: a layer that is not there, or of another shape.
        SynthesizerLoadError: a file that is not one of safetensors, a folder without any, or one of another kind of
            adapter.
    """
    adapter = read_adapter(lora)
    factor = scale if scale is not None else adapter.factor
    tensors, names = adapter.tensors, f"{adapter.name} for {_described(network)}"
    merged = copy.deepcopy(network)
    layers = dict(merged.named_modules())
    used: set[str] = set()
    for name, down in tensors.items():
        found = _DOWN.fullmatch(name)
        if found is None:
            continue
        other = name.replace("lora_A", "lora_B").replace("lora.down", "lora.up")
        layer, up = layers.get(found["layer"]), tensors.get(other)
        _check(found["layer"], layer, down, up, names)
        weight: Any = layer.weight  # type: ignore[union-attr]
        product = up.flatten(1).float() @ down.flatten(1).float()  # type: ignore[union-attr]
        with torch.no_grad():
            weight += factor * product.reshape(weight.shape).to(weight)
        used |= {name, other}
    rest = sorted(tensors.keys() - used)
    if rest or not used:
        raise ConfigurationError(
            "`lora` must hold pairs lora_A, lora_B for layers of the network, got "
            f"{rest[0] if rest else 'no tensors'!r} in {names}. It belongs to another kind of model, or also adapts a "
            "text encoder, which is not part of a synthesizer. Use the adapter of this network."
        )
    return merged


def _described(network: nn.Module) -> str:
    """Class and origin of a network, for messages."""
    config: Any = getattr(network, "config", {})
    origin = config.get("_name_or_path") if isinstance(config, Mapping) else None
    return f"{type(network).__name__} of {origin!r}" if origin else type(network).__name__


def _check(name: str, layer: nn.Module | None, down: Tensor, up: Tensor | None, names: str) -> None:
    """Raises `ConfigurationError` unless both matrices belong to the layer."""
    weight = getattr(layer, "weight", None)
    if weight is None or up is None:
        raise ConfigurationError(
            f"`lora` must belong to this network, got {names}, with matrices of the layer {name!r}, which "
            f"{'the network does not have' if weight is None else 'lacks its second matrix'}. It was trained for "
            "another model. Use the model that it belongs to."
        )
    rank = down.shape[0]
    fits = up.shape[0] == weight.shape[0] and up.shape[1] == rank and rank * weight[0].numel() == down.numel()
    if not fits:
        raise ConfigurationError(
            f"`lora` must belong to this network, got {names}, with matrices of {tuple(up.shape)} and "
            f"{tuple(down.shape)} for the layer {name!r} of {tuple(weight.shape)}. It was trained for another model. "
            "Use the model that it belongs to."
        )
