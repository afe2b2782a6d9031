"""Fingerprints: what decides a synthesizer's samples, as one sha256."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def weights_digest(module: nn.Module) -> str:
    """sha256 over all parameters and buffers: names, dtypes, shapes and bytes. The same on every device."""
    digest = hashlib.sha256()
    tensors = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def component_description(component: Any) -> dict[str, Any]:
    """Class and configuration of a diffusers component.

    Settings that the class does not know (it ignores them), or that equal its default, are left out: neither a newer
    diffusers with another option nor a configuration copied from another scheduler changes the fingerprint.
    """
    parameters = inspect.signature(type(component).__init__).parameters
    settings = {
        name: json.loads(_json(value))
        for name, value in component.config.items()
        if name in parameters and _json(parameters[name].default) != _json(value)
    }
    return {"class": type(component).__name__, "config": settings}


def diffusion_digest(
    described: Mapping[str, Any], settings: Mapping[str, Any], scheduler: Any, networks: Mapping[str, nn.Module]
) -> str:
    """sha256 over a diffusion model of diffusers: not its device, nor CUDA graphs, which run the very same kernels.

    Args:
        described: the family, and what else decides the samples, JSON-ready.
        settings: the sampling settings, JSON-ready.
        scheduler: the scheduler that is stepped.
        networks: name → network in the compute dtype, each a model of diffusers.
    """
    decisive = {name: value for name, value in settings.items() if name != "cuda_graph"}
    components = {"scheduler": component_description(scheduler)}
    for name, network in networks.items():
        components[name] = component_description(network) | {"weights": weights_digest(network)}
    return settings_digest({**described, "settings": decisive} | components)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """sha256 over JSON-ready settings, whatever their order."""
    return hashlib.sha256(_json(settings).encode()).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    # numpy arrays and tensors (`trained_betas`) as lists; anything else, such as "no default", by its name.
    return value.tolist() if hasattr(value, "tolist") else repr(value)
