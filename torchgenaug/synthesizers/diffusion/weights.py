"""Builds a network of diffusers from its configuration and loads its weights, from safetensors alone.

`from_pretrained` of diffusers unpickles a ``.bin`` that an index of shards names, replaces torch's initialisation in
all threads while it loads, and reads any quantisation that a configuration asks for; none of that happens here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.parts.building import Construction, check_numbers
from torchgenaug.synthesizers.parts.model_files import read_json, tensor_shapes

_WEIGHTS = "diffusion_pytorch_model"
# Variants ("fp16") stand before or, in folders of older versions, behind the number of the shard.
_SHARD = r"(-\d{5}-of-\d{5})?"
_FILE = re.compile(rf"{_WEIGHTS}(?P<variant>\.\w+)?{_SHARD}(?P<old>\.\w+)?\.safetensors")
_INDEX = re.compile(rf"{_WEIGHTS}(\.\w+)?\.safetensors\.index(\.\w+)?\.json")


def build_net(
    cls: Any, config: Mapping[str, Any], place: Path | str, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> nn.Module:
    """A network of a class of diffusers with this configuration and fresh weights.

    Args:
        cls: the class.
        config: its arguments; others, of older versions, are left out as diffusers does.
        place: of the configuration, for errors.
        shapes: of its weights: a network far larger than these is refused.

    Raises:
        SynthesizerLoadError: a configuration that the class refuses, or numbers that no network has.
    """
    check_numbers(config, str(place))
    known = inspect.signature(cls.__init__).parameters
    arguments = {name: value for name, value in config.items() if name in known and not name.startswith("_")}
    try:
        with Construction(shapes):
            net: nn.Module = cls.from_config(arguments)
    except SynthesizerLoadError as error:
        raise SynthesizerLoadError(f"{error} (at {place})") from error
    except Exception as error:
        raise SynthesizerLoadError(
            f"{place} must hold weights that fit its configuration, and settings that {cls.__name__} takes, got "
            f"{error!r:.300}. Save the model again."
        ) from error
    return net.eval()


def load_weights(cls: Any, folder: Path) -> nn.Module:
    """The network of ``config.json`` and the safetensors files in `folder`; float32.

    Raises:
        SynthesizerLoadError: no such files, pickled weights, or weights of another network.
    """
    files = _weight_files(cls, folder)
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        shapes |= tensor_shapes(file)
    net = build_net(cls, read_json(folder / "config.json"), folder, shapes)
    state = _state(files)
    # Weights of older versions have other names, which diffusers knows.
    rename: Any = getattr(net, "_fix_state_dict_keys_on_load", None)
    if rename is not None:
        rename(state)
    expected = net.state_dict()
    wrong = {
        "missing": sorted(expected.keys() - state.keys()),
        # Tables that older versions wrote into the file are made anew by the network.
        "unexpected": sorted(state.keys() - expected.keys() - {name for name, _ in net.named_buffers()}),
        "of another shape": sorted(key for key in expected.keys() & state if expected[key].shape != state[key].shape),
    }
    if any(wrong.values()):
        counted = ", ".join(f"{len(keys)} {kind} ({keys[0]} …)" for kind, keys in wrong.items() if keys)
        raise SynthesizerLoadError(
            f"{folder} must hold the weights of the network in its config.json, got {counted}. It would sample noise. "
            "Take weights and config.json from the same model."
        )
    net.load_state_dict({key: state[key] for key in expected})
    return net


def _weight_files(cls: Any, folder: Path) -> list[Path]:
    """The files of one variant: float32 where there is a choice."""
    present = sorted(file.name for file in folder.iterdir() if file.name.startswith(_WEIGHTS))
    _check_indices(folder, present)
    variants: dict[str, list[Path]] = {}
    for name in present:
        found = _FILE.fullmatch(name)
        if found is not None:
            variants.setdefault(found["variant"] or found["old"] or "", []).append(folder / name)
    if not variants:
        raise SynthesizerLoadError(
            f"{folder} must hold weights as {_WEIGHTS}.safetensors, got {present or 'none'}. Pickled weights can run "
            "any code and are not loaded. If you trust the file, convert it once: "
            f"{cls.__name__}.from_pretrained({str(folder)!r}, use_safetensors=False).save_pretrained({str(folder)!r})."
        )
    chosen = variants[min(variants)]
    whole = [file for file in chosen if "-of-" not in file.name]
    return whole or chosen


def _check_indices(folder: Path, names: list[str]) -> None:
    """Refuses an index of shards that names other files than safetensors of this folder."""
    for name in names:
        if not _INDEX.fullmatch(name):
            continue
        mapping = read_json(folder / name).get("weight_map")
        files = set(mapping.values()) if isinstance(mapping, dict) and _all_text(mapping) else {str(mapping)[:80]}
        wrong = sorted(file for file in files if not _FILE.fullmatch(file) or not (folder / file).exists())
        if wrong:
            raise SynthesizerLoadError(
                f"`weight_map` must name {_WEIGHTS}….safetensors files of its folder, got {wrong[0]!r} at "
                f"{folder / name}. Pickled weights can run any code and are not loaded. Nothing was loaded."
            )


def _all_text(mapping: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, str) for value in mapping.values())


def _state(files: list[Path]) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for file in files:
        try:
            state |= load_file(file)
        except Exception as error:
            raise SynthesizerLoadError(
                f"{file} must hold weights that fit its config.json, as safetensors, got {error!r}. Save it again."
            ) from error
    halves = (torch.float16, torch.bfloat16)
    return {name: value.float() if value.dtype in halves else value for name, value in state.items()}
