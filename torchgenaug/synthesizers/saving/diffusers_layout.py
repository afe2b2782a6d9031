"""The saved form of `DiffusersSynthesizer`: the layout of a diffusers pipeline folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.diffusion import folder as pipelines
from torchgenaug.synthesizers.diffusion.unet import DiffusersSynthesizer
from torchgenaug.synthesizers.parts.storable import json_bytes, rounded, weights_file

_CONFIG, _WEIGHTS, _SCHEDULER = "config.json", "diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"
_NETS = {"unet": pipelines.UNETS, "vae": pipelines.VAES}


def encode(
    synthesizer: DiffusersSynthesizer, weights_dtype: torch.dtype | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Entries of ``synthesizer.json``, and file name → content."""
    contents = {_SCHEDULER: _config_json(synthesizer.scheduler)}
    for name, net in _networks(synthesizer).items():
        contents[f"{name}/{_CONFIG}"] = _config_json(net)
        contents[f"{name}/{_WEIGHTS}"] = weights_file(net.state_dict(), weights_dtype)
    return {"settings": synthesizer.settings}, contents


def decode(
    index: Mapping[str, Any],
    contents: Mapping[str, bytes],
    place: str,
    device: torch.device,
    dtype: torch.dtype | None,
) -> DiffusersSynthesizer:
    """The other way round: `contents` were checked against the index's sha256."""
    scheduler = pipelines.scheduler_from_config(json.loads(contents[_SCHEDULER]), f"{place}/{_SCHEDULER}")
    nets = {name: _net(name, contents, place) for name in _NETS if f"{name}/{_CONFIG}" in contents}
    return _build(nets, scheduler, index["settings"], device, dtype)


def check_files(files: object, place: str) -> None:
    """Raises `SynthesizerLoadError` unless `files` are those of such a folder."""
    required = {_SCHEDULER, f"unet/{_CONFIG}", f"unet/{_WEIGHTS}"}
    known = required | {f"vae/{_CONFIG}", f"vae/{_WEIGHTS}"}
    if not isinstance(files, dict) or set(files) not in (required, known):
        raise SynthesizerLoadError(
            f"`files` must name {sorted(required)} (and vae/), got "
            f"{sorted(files) if isinstance(files, dict) else files!r} at {place}. Nothing else is opened: no pickles, "
            "no paths outside the folder. Save the synthesizer again."
        )


def with_rounded_weights(synthesizer: DiffusersSynthesizer, weights_dtype: torch.dtype) -> DiffusersSynthesizer:
    """The synthesizer that will be loaded when the weights are stored in `weights_dtype`."""
    nets = {name: rounded(net, name, weights_dtype) for name, net in _networks(synthesizer).items()}
    return _build(nets, synthesizer.scheduler, synthesizer.settings, synthesizer.device, None)


def _networks(synthesizer: DiffusersSynthesizer) -> dict[str, nn.Module]:
    return {name: net for name, net in (("unet", synthesizer.unet), ("vae", synthesizer.vae)) if net is not None}


def _build(
    nets: Mapping[str, nn.Module],
    scheduler: Any,
    settings: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype | None,
) -> DiffusersSynthesizer:
    low, high = settings["value_range"]
    return DiffusersSynthesizer(
        nets["unet"],
        scheduler,
        vae=nets.get("vae"),
        steps=settings["steps"],
        guidance_scale=settings["guidance_scale"],
        value_range=(low, high),
        label_channels=settings["label_channels"],
        clip=settings["clip"],
        null_class=settings["null_class"],
        device=device,
        dtype=getattr(torch, settings["dtype"]) if dtype is None else dtype,
        channels_last=settings.get("channels_last"),
        compile=settings.get("compile", False),
        # It changes no sample, and other devices have none.
        cuda_graph=settings.get("cuda_graph", False) and device.type == "cuda",
    )


def _net(name: str, contents: Mapping[str, bytes], place: str) -> nn.Module:
    from safetensors.torch import load

    config = json.loads(contents[f"{name}/{_CONFIG}"])
    net: nn.Module = pipelines.net_class(config, _NETS[name], f"{place}/{name}/{_CONFIG}").from_config(config)
    # assign: the weights keep the dtype of the file until the synthesizer converts them.
    net.load_state_dict(load(contents[f"{name}/{_WEIGHTS}"]), assign=True)
    return net


def _config_json(component: Any) -> bytes:
    config = json.loads(component.to_json_string())
    # Where the component was once loaded from is nobody's business.
    config.pop("_name_or_path", None)
    return json_bytes(config, sort_keys=True)
