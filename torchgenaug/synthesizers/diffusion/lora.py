"""`merge_lora`: a network whose weights have a low-rank adapter (LoRA) added to them.

Hu et al. (2022), "LoRA: Low-rank adaptation of large language models", equation 3: W + (alpha / r) · B A. Merged, the
network is an ordinary one: it samples as fast as before, needs no peft, and its fingerprint is one of its weights.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers.parts.model_files import tensor_shapes

_DOWN = re.compile(r"(?:unet\.)?(?P<layer>.+)\.lora(?:_A(?:\.default)?|\.down)\.weight")
_METADATA = "lora_adapter_metadata"
_MAX_TENSORS = 20_000


def merge_lora(network: nn.Module, lora: str | Path | Mapping[str, Tensor], *, scale: float | None = None) -> nn.Module:
    """A copy of `network` with the adapter in its weights.

    Args:
        network: the network that the adapter was trained for, such as the UNet of a Stable Diffusion pipeline.
        lora: a safetensors file as diffusers (``save_lora_weights``) and peft write it, or its tensors: for each layer
            ``LAYER.lora_A.weight`` (rank, inputs) and ``LAYER.lora_B.weight`` (outputs, rank). Keys of a text encoder
            are refused: prompts are encoded before.
        scale: alpha / rank; default: what the file says, 1 where it says nothing (alpha equal to the rank, as diffusers
            trains them).

    Raises:
        ConfigurationError: an adapter for another network: a layer that is not there, or of another shape.
        SynthesizerLoadError: a file that is not one of safetensors.
    """
    tensors, noted = _read(lora) if isinstance(lora, str | Path) else (dict(lora), None)
    factor = scale if scale is not None else 1.0 if noted is None else noted
    merged = copy.deepcopy(network)
    layers = dict(merged.named_modules())
    used: set[str] = set()
    for name, down in tensors.items():
        found = _DOWN.fullmatch(name)
        if found is None:
            continue
        other = name.replace("lora_A", "lora_B").replace("lora.down", "lora.up")
        layer, up = layers.get(found["layer"]), tensors.get(other)
        _check(found["layer"], layer, down, up)
        weight: Any = layer.weight  # type: ignore[union-attr]
        product = up.flatten(1).float() @ down.flatten(1).float()  # type: ignore[union-attr]
        with torch.no_grad():
            weight += factor * product.reshape(weight.shape).to(weight)
        used |= {name, other}
    rest = sorted(tensors.keys() - used)
    if rest or not used:
        raise ConfigurationError(
            f"`lora` must hold pairs lora_A, lora_B for layers of {type(network).__name__}, got "
            f"{rest[0] if rest else 'no tensors'!r}. It belongs to another kind of model, or also adapts a text "
            "encoder, which is not part of a synthesizer. Use the adapter of this network."
        )
    return merged


def _check(name: str, layer: nn.Module | None, down: Tensor, up: Tensor | None) -> None:
    """Raises `ConfigurationError` unless both matrices belong to the layer."""
    weight = getattr(layer, "weight", None)
    if weight is None or up is None:
        raise ConfigurationError(
            f"`lora` must belong to this network, got an adapter of the layer {name!r}, which "
            f"{'it does not have' if weight is None else 'lacks its second matrix'}. It was trained for another model. "
            "Use the model that it belongs to."
        )
    rank = down.shape[0]
    fits = up.shape[0] == weight.shape[0] and up.shape[1] == rank and rank * weight[0].numel() == down.numel()
    if not fits:
        raise ConfigurationError(
            f"`lora` must belong to this network, got matrices of {tuple(up.shape)} and {tuple(down.shape)} for the "
            f"layer {name!r} of {tuple(weight.shape)}. It was trained for another model. Use the model that it belongs "
            "to."
        )


def _read(path: str | Path) -> tuple[dict[str, Tensor], float | None]:
    """The tensors of a file, and alpha / rank where its metadata say it."""
    from safetensors import safe_open

    try:
        names = tensor_shapes(Path(path)).keys()  # a regular file, as large as its header states
        if len(names) > _MAX_TENSORS:
            raise ValueError(f"{len(names):,} tensors, where adapters have at most {_MAX_TENSORS:,}")
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            factor = _factor(json.loads((file.metadata() or {}).get(_METADATA, "{}")))
    except Exception as error:
        raise SynthesizerLoadError(
            f"`lora` must be a safetensors file, got {str(path)!r}, which fails with: {error!r}. Pickled adapters are "
            "not opened. Convert it with diffusers: pipeline.load_lora_weights, pipeline.save_lora_weights."
        ) from error
    return tensors, factor


def _factor(settings: Mapping[str, Any]) -> float | None:
    alpha, rank = (settings.get(f"unet.{name}", settings.get(name)) for name in ("lora_alpha", "r"))
    if alpha is None or rank is None:
        return None
    if not math.isfinite(factor := float(alpha) / float(rank)):
        raise ValueError(f"alpha / rank of {factor}")
    return factor
