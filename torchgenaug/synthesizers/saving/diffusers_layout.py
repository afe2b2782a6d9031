"""The files of a saved `DiffusersSynthesizer`: those of a diffusers pipeline folder, which diffusers can load too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from torchgenaug.contracts import Stored
from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.diffusion import folder as pipelines
from torchgenaug.synthesizers.parts.storable import json_bytes, weights_file

_CONFIG, _WEIGHTS, _SCHEDULER = "config.json", "diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"
_NETS = {"unet": pipelines.UNETS, "vae": pipelines.VAES}


def encode(stored: Stored, weights_dtype: torch.dtype | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Entries of ``synthesizer.json``, and file name → content."""
    settings = dict(stored.settings)
    contents = {_SCHEDULER: _config_bytes(settings.pop("scheduler"))}
    for name, net in stored.networks.items():
        config: Any = net
        contents[f"{name}/{_CONFIG}"] = _config_bytes(json.loads(config.to_json_string()))
        contents[f"{name}/{_WEIGHTS}"] = weights_file(net.state_dict(), weights_dtype)
    return {"settings": settings}, contents


def decode(index: Mapping[str, Any], contents: Mapping[str, bytes], parts: Mapping[str, Any], place: str) -> Stored:
    """What `encode` was given, from its result: `contents` were checked against the index's sha256."""
    settings = {**index["settings"], "scheduler": json.loads(contents[_SCHEDULER])}
    nets = {name: _net(name, contents, place) for name in _NETS if f"{name}/{_CONFIG}" in contents}
    return Stored(settings, nets, parts=parts)


def check_files(files: object, parts: object, place: str) -> None:
    """Raises `SynthesizerLoadError` unless `files` are those of such a folder; it has no parts."""
    required = {_SCHEDULER, f"unet/{_CONFIG}", f"unet/{_WEIGHTS}"}
    known = required | {f"vae/{_CONFIG}", f"vae/{_WEIGHTS}"}
    if not isinstance(files, dict) or set(files) not in (required, known) or parts:
        raise SynthesizerLoadError(
            f"`files` must name {sorted(required)} (and vae/), got "
            f"{sorted(files) if isinstance(files, dict) else files!r} at {place}. Nothing else is opened: no pickles, "
            "no paths outside the folder. Save the synthesizer again."
        )


def _net(name: str, contents: Mapping[str, bytes], place: str) -> nn.Module:
    from safetensors.torch import load

    config = json.loads(contents[f"{name}/{_CONFIG}"])
    net: nn.Module = pipelines.net_class(config, _NETS[name], f"{place}/{name}/{_CONFIG}").from_config(config)
    # assign: the weights keep the dtype of the file until the synthesizer converts them.
    net.load_state_dict(load(contents[f"{name}/{_WEIGHTS}"]), assign=True)
    return net


def _config_bytes(config: dict[str, Any]) -> bytes:
    # Where the component was once loaded from is nobody's business.
    config.pop("_name_or_path", None)
    return json_bytes(config, sort_keys=True)
