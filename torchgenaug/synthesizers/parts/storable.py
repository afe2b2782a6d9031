"""The parts of a synthesizer as file contents and back: settings, networks, arrays, synthesizers inside it."""

from __future__ import annotations

import copy
import importlib
import json
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.contracts import Stored
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers.parts.blueprints import blueprint_of, from_blueprint
from torchgenaug.synthesizers.parts.building import check_numbers
from torchgenaug.synthesizers.parts.verified_files import VerifiedFiles

FAMILIES: Mapping[str, tuple[str, str]] = {
    "class_prompts": ("torchgenaug.synthesizers.class_prompts", "ClassPromptSynthesizer"),
    "diffusers": ("torchgenaug.synthesizers.diffusion.unet", "DiffusersSynthesizer"),
    "module": ("torchgenaug.synthesizers.module.synthesizer", "ModuleSynthesizer"),
    "monai": ("torchgenaug.synthesizers.monai.synthesizer", "MonaiSynthesizer"),
    "pythae": ("torchgenaug.synthesizers.pythae.synthesizer", "PythaeSynthesizer"),
    "two_stage": ("torchgenaug.synthesizers.two_stage", "TwoStageSynthesizer"),
    "dit": ("torchgenaug.synthesizers.diffusion.dit", "DiTSynthesizer"),
    "edit": ("torchgenaug.synthesizers.edit", "DiffusionEditSynthesizer"),
    "labels_to_image": ("torchgenaug.synthesizers.labels_to_image", "LabelsToImageSynthesizer"),
    "ensemble": ("torchgenaug.synthesizers.ensemble", "EnsembleSynthesizer"),
    "stable_diffusion": ("torchgenaug.synthesizers.diffusion.stable_diffusion", "StableDiffusionSynthesizer"),
}
"""Family → module and class."""

_PART = "[A-Za-z0-9_][A-Za-z0-9_-]{0,39}"
_NAME = re.compile(_PART)
# What may stand in a folder: networks and numbers, and under parts/NAME/ a folder of this or the diffusers kind.
_FILE = re.compile(
    rf"(parts/{_PART}/){{0,8}}(networks/{_PART}\.safetensors|tensors\.safetensors)"
    rf"|(parts/{_PART}/){{1,8}}(synthesizer\.json|scheduler/scheduler_config\.json"
    r"|(unet|vae)/(config\.json|diffusion_pytorch_model\.safetensors))"
)


def encode(stored: Stored, weights_dtype: torch.dtype | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Entries of ``synthesizer.json``, and file name → content; parts are left to the caller.

    Raises:
        ConfigurationError: a network that does not know how it was built, or a name that is no file name.
    """
    for name in [*stored.networks, *stored.tensors, *stored.parts]:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"Names of networks and parts must be at most 40 letters, digits, '_' or '-' to be saved, got {name!r}."
            )
    blueprints = {name: blueprint_of(network, name) for name, network in stored.networks.items()}
    contents = {
        f"networks/{name}.safetensors": weights_file(network.state_dict(), weights_dtype)
        for name, network in stored.networks.items()
    }
    if stored.tensors:
        contents["tensors.safetensors"] = weights_file(stored.tensors, None)
    return {"settings": dict(stored.settings), "networks": blueprints, "parts": sorted(stored.parts)}, contents


def decode(
    index: Mapping[str, Any], contents: VerifiedFiles, parts: Mapping[str, Any], place: str, *, trust_code: bool
) -> Stored:
    """What `encode` was given, from its result.

    Raises:
        SynthesizerLoadError: a network that may not or cannot be built, or other files than it has.
    """
    blueprints, settings = index.get("networks"), index.get("settings")
    if not isinstance(blueprints, dict) or not isinstance(settings, dict):
        raise SynthesizerLoadError(f"{place} must hold `settings` and `networks`. Save the synthesizer again.")
    check_numbers(settings, f"{place}, settings")
    required = {f"networks/{name}.safetensors" for name in blueprints if _NAME.fullmatch(name)}
    if len(required) != len(blueprints) or set(contents) - {"tensors.safetensors"} != required:
        raise SynthesizerLoadError(
            f"`files` must name {sorted(required)} (and tensors.safetensors), got {sorted(contents)} at {place}. "
            "Nothing else is opened. Save the synthesizer again."
        )
    networks = {}
    for name, blueprint in blueprints.items():
        file = f"networks/{name}.safetensors"
        shapes = contents.shapes(file)
        network = from_blueprint(blueprint, f"{place}, network {name!r}", shapes=shapes, trust_code=trust_code)
        networks[name] = with_weights(network, shapes, contents, file, place)
    tensors = contents.tensors("tensors.safetensors") if "tensors.safetensors" in contents else {}
    return Stored(settings, networks, tensors, parts)


def with_weights(
    network: nn.Module, shapes: Mapping[str, tuple[int, ...]], contents: VerifiedFiles, file: str, place: str
) -> nn.Module:
    """`network` with the weights of `file`, whose `shapes` are compared before the file is read."""
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    wrong = sorted(name for name in expected.keys() | shapes if expected.get(name) != shapes.get(name))
    if wrong:
        raise SynthesizerLoadError(
            f"{place} must hold weights that fit its configuration, got {len(wrong)} of {file} that do not, "
            f"{wrong[0][:80]!r} among them. Save the synthesizer again."
        )
    # assign: the weights keep the dtype of the file until the synthesizer converts them.
    network.load_state_dict(contents.tensors(file), assign=True)
    return network


def check_files(files: object, parts: object, place: str) -> None:
    """Raises `SynthesizerLoadError` unless every name is one that such a folder may have."""
    named = isinstance(parts, list) and all(isinstance(name, str) and _NAME.fullmatch(name) for name in parts)
    known = isinstance(files, dict) and all(
        _FILE.fullmatch(str(name)) and isinstance(digest, str) for name, digest in files.items()
    )
    if not named or not known:
        raise SynthesizerLoadError(
            f"`files` and `parts` must name networks, tensors and parts, got {str(files)[:200]} and {str(parts)[:80]} "
            f"at {place}. Nothing else is opened: no pickles, no paths outside the folder. Save the synthesizer again."
        )


def check_family(family: object, place: str) -> None:
    """Raises `SynthesizerLoadError` unless this version knows the family."""
    if not isinstance(family, str) or family not in FAMILIES:
        raise SynthesizerLoadError(
            f"`family` must be one of {', '.join(FAMILIES)}, got {family!r} at {place}. Build such a "
            "model in code and pass it as package.module:factory."
        )


def family_class(family: str) -> Any:
    """The class that reads folders of `family`, one of `FAMILIES`."""
    home, name = FAMILIES[family]
    return getattr(importlib.import_module(home), name)


def rounded(network: nn.Module, name: str, weights_dtype: torch.dtype) -> nn.Module:
    """A copy of `network` with its weights in `weights_dtype`.

    Raises:
        ConfigurationError: a weight that overflows there.
    """
    network = copy.deepcopy(network)
    # Not `to`, which would round tables, too, that are in no file: loading makes them anew.
    cast = {
        name: value.to(weights_dtype) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(cast, assign=True)
    for parameter, values in cast.items():
        if not values.isfinite().all():
            raise ConfigurationError(
                f"`weights_dtype` must hold every weight, got {weights_dtype}, in which {name}.{parameter} "
                "overflows. Use torch.bfloat16 or None."
            )
    return network


def weights_file(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> bytes:
    """The bytes of a safetensors file; floating-point tensors as `dtype`, if given."""
    from safetensors.torch import save

    ready = {}
    for name, value in tensors.items():
        # clone: safetensors refuses tensors that share memory, such as tied weights.
        ready[name] = value.detach().cpu().to(dtype if value.is_floating_point() else None).contiguous().clone()
    return save(ready, metadata={"format": "pt"})


def json_bytes(content: Mapping[str, Any], *, sort_keys: bool = False) -> bytes:
    """A JSON object as the bytes of a file."""
    return (json.dumps(content, indent=2, sort_keys=sort_keys) + "\n").encode()
