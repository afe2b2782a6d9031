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
from torchgenaug.synthesizers.diffusion.weights import build_net
from torchgenaug.synthesizers.parts.building import check_numbers
from torchgenaug.synthesizers.parts.model_files import parse_json
from torchgenaug.synthesizers.parts.storable import json_bytes, weights_file, with_weights
from torchgenaug.synthesizers.parts.verified_files import VerifiedFiles

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


def decode(
    index: Mapping[str, Any], contents: VerifiedFiles, parts: Mapping[str, Any], place: str, *, trust_code: bool
) -> Stored:
    """What `encode` was given, from its result; all classes are diffusers' own: `trust_code` changes nothing."""
    check_numbers(index["settings"], f"{place}, settings")
    settings = {**index["settings"], "scheduler": parse_json(contents[_SCHEDULER], f"{place}/{_SCHEDULER}")}
    nets = {name: _net(name, contents, place) for name in _NETS if f"{name}/{_CONFIG}" in contents}
    return Stored(settings, nets, parts=parts)


def check_files(files: object, parts: object, place: str) -> None:
    """Raises `SynthesizerLoadError` unless `files` are those of such a folder; it has no parts."""
    required = {_SCHEDULER, f"unet/{_CONFIG}", f"unet/{_WEIGHTS}"}
    known = required | {f"vae/{_CONFIG}", f"vae/{_WEIGHTS}"}
    named = isinstance(files, dict) and set(files) in (required, known)
    if not named or not all(isinstance(digest, str) for digest in files.values()) or parts:  # type: ignore[attr-defined]
        raise SynthesizerLoadError(
            f"`files` must name {sorted(required)} (and vae/), got "
            f"{sorted(files) if isinstance(files, dict) else files!r} at {place}. Nothing else is opened: no pickles, "
            "no paths outside the folder. Save the synthesizer again."
        )


def _net(name: str, contents: VerifiedFiles, place: str) -> nn.Module:
    where, file = f"{place}/{name}/{_CONFIG}", f"{name}/{_WEIGHTS}"
    config = parse_json(contents[f"{name}/{_CONFIG}"], where)
    shapes = contents.shapes(file)
    net = build_net(pipelines.net_class(config, _NETS[name], where), config, where, shapes)
    return with_weights(net, shapes, contents, file, place)


def _config_bytes(config: dict[str, Any]) -> bytes:
    # Where the component was once loaded from is nobody's business.
    config.pop("_name_or_path", None)
    return json_bytes(config, sort_keys=True)
