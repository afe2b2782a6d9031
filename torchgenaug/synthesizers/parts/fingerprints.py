"""Fingerprints: what decides a synthesizer's samples, as one sha256."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType
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


def module_description(module: nn.Module) -> list[Any]:
    """Classes, printed form and plain attributes of a module and its parts, JSON-ready.

    Numbers of heads, gains and activation functions are in no weight, and seldom in what is printed.
    """
    return [
        [
            name,
            getattr(part, "original_name", type(part).__qualname__),
            _without_addresses(part.extra_repr()),
            sorted((key, _without_addresses(str(value))) for key, value in _attributes(part).items()),
        ]
        for name, part in module.named_modules(remove_duplicate=False)
    ]


def module_digest(module: nn.Module) -> str:
    """sha256 over the description and the weights of a module."""
    return settings_digest({"structure": module_description(module), "weights": weights_digest(module)})


def _attributes(module: nn.Module) -> dict[str, Any]:
    # Lists and tuples are the same setting: JSON knows lists only.
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in _all_attributes(module)
        if not key.startswith("_") and key not in ("training", "blueprint") and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    return isinstance(value, bool | int | float | str | FunctionType | BuiltinFunctionType | torch.dtype | type(None))


def _all_attributes(module: nn.Module) -> list[tuple[str, Any]]:
    if type(module).__module__.startswith("torch.nn.") and module.extra_repr():
        return []  # what torch prints of its own layers is all; another version may give them another attribute
    if not isinstance(module, torch.jit.ScriptModule):
        return list(vars(module).items())
    # TorchScript lists its attributes in this text only: four spaces in, those of its parts further.
    inner = module._c
    names = re.findall(r"^ {4}(\w+) = ", inner.dump_to_str(False, True, False), re.MULTILINE)
    return [(name, inner.getattr(name)) for name in names]


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


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
