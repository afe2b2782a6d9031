"""Reads the folders of diffusers' Stable Diffusion and DiT pipelines, without executing anything in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.diffusion import folder as pipelines
from torchgenaug.synthesizers.parts.model_files import read_json

# What a sample needs is loaded; the rest is not: prompts come as embeddings (`encode_prompts` reads the text encoder),
# and the safety checker blackens whole images by a classifier of photographs, which says nothing about medical ones
# and would hide a sample without an error.
_IGNORED = frozenset(
    {"tokenizer", "text_encoder", "safety_checker", "feature_extractor", "requires_safety_checker", "id2label"}
)
_TRANSFORMERS = ("DiTTransformer2DModel", "Transformer2DModel")


class Loaded(NamedTuple):
    """What a folder holds.

    Attributes:
        networks: by the names of diffusers: ``unet`` or ``transformer``, ``vae``, ``controlnet``.
        scheduler: as saved.
        mode: what the pipeline does: "text", "image" or "inpaint".
    """

    networks: Mapping[str, nn.Module]
    scheduler: Any
    mode: str


def pipeline_home(path: str | Path) -> str:
    """The name of the class that samples the local folder `path`; `DiffusersSynthesizer` where it does not say."""
    index = Path(path) / "model_index.json"
    name = read_json(index).get("_class_name") if index.exists() else None
    return pipelines.HOMES.get(name, "DiffusersSynthesizer") if isinstance(name, str) else "DiffusersSynthesizer"


def load_dit(path: str | Path, revision: str | None = None) -> Loaded:
    """``transformer/``, ``scheduler/`` and, if there, ``vae/``.

    Raises:
        SynthesizerLoadError: another layout, pickled weights, or a class that is not one of diffusers' own.
    """
    folder = pipelines.local_folder(path, revision)
    _pipeline(folder, "DiTSynthesizer", ("transformer", "vae"))
    _check_there(folder, ("transformer", "scheduler"))
    networks = {"transformer": pipelines.load_net(folder / "transformer", _TRANSFORMERS)}
    if (folder / "vae").is_dir():
        networks["vae"] = pipelines.load_net(folder / "vae", pipelines.VAES)
    return Loaded(networks, pipelines.load_scheduler(folder / "scheduler"), "class")


def load_stable_diffusion(path: str | Path, revision: str | None = None) -> Loaded:
    """``unet/``, ``vae/``, ``scheduler/`` and, if there, ``controlnet/``.

    Raises:
        SynthesizerLoadError: another layout, pickled weights, or a class that is not one of diffusers' own.
    """
    folder = pipelines.local_folder(path, revision)
    name = _pipeline(folder, "StableDiffusionSynthesizer", ("unet", "vae", "controlnet"))
    _check_there(folder, ("unet", "vae", "scheduler"))
    networks = {
        "unet": pipelines.load_net(folder / "unet", ("UNet2DConditionModel",)),
        "vae": pipelines.load_net(folder / "vae", ("AutoencoderKL",)),
    }
    if (folder / "controlnet").is_dir():
        networks["controlnet"] = pipelines.load_net(folder / "controlnet", ("ControlNetModel",))
    mode = "image" if "Img2Img" in name else "inpaint" if "Inpaint" in name else "text"
    return Loaded(networks, pipelines.load_scheduler(folder / "scheduler"), mode)


def _pipeline(folder: Path, cls: str, wanted: tuple[str, ...]) -> str:
    """The name of the folder's pipeline, its components checked; "" without ``model_index.json``."""
    index_path = folder / "model_index.json"
    if not index_path.exists():
        return ""
    index = read_json(index_path)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in pipelines.HOMES:
        expected = " or ".join(pipeline for pipeline, home in pipelines.HOMES.items() if home == cls)
        raise pipelines.unknown_class(name, index_path, expected)
    pipelines.check_home(name, cls, folder)
    for component, entry in index.items():
        absent = not isinstance(entry, list) or entry == [None, None]
        if component.startswith("_") or component in _IGNORED or absent:
            continue
        if component not in (*wanted, "scheduler") or entry[0] != "diffusers":
            raise SynthesizerLoadError(
                f"`path` must hold a pipeline of {', '.join(wanted)} and scheduler, all from diffusers; got "
                f"{component!r} = {entry} in {index_path}. Load such a pipeline yourself and wrap it as "
                "FunctionSynthesizer."
            )
    return name


def _check_there(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if not (folder / name).is_dir():
            raise SynthesizerLoadError(
                f"`path` must hold the folders {', '.join(f'{each}/' for each in names)}, got {folder} without "
                f"{name}/. Save the whole pipeline: pipeline.save_pretrained(path)."
            )
