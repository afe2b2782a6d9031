"""Reads diffusers pipeline folders without executing anything in them."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchgenaug.errors import SynthesizerLoadError, TorchGenAugError
from torchgenaug.synthesizers.diffusion.weights import load_weights
from torchgenaug.synthesizers.parts.building import MAX_TIMESTEPS, check_numbers
from torchgenaug.synthesizers.parts.model_files import read_json

UNETS = ("UNet2DModel",)
HOMES = {
    "DiTPipeline": "DiTSynthesizer",
    "LatentConsistencyModelImg2ImgPipeline": "StableDiffusionSynthesizer",
    "LatentConsistencyModelPipeline": "StableDiffusionSynthesizer",
    "StableDiffusionControlNetImg2ImgPipeline": "StableDiffusionSynthesizer",
    "StableDiffusionControlNetInpaintPipeline": "StableDiffusionSynthesizer",
    "StableDiffusionControlNetPipeline": "StableDiffusionSynthesizer",
    "StableDiffusionImg2ImgPipeline": "StableDiffusionSynthesizer",
    "StableDiffusionInpaintPipeline": "StableDiffusionSynthesizer",
    "StableDiffusionPipeline": "StableDiffusionSynthesizer",
}
"""Pipeline of diffusers → the class that samples such a folder; all others: `DiffusersSynthesizer`."""
VAES = ("AutoencoderKL", "VQModel")


@contextlib.contextmanager
def named_faults(path: str | Path) -> Iterator[None]:
    """What libraries raise at a configuration that no model has becomes a `SynthesizerLoadError` of the folder."""
    try:
        yield
    except (TorchGenAugError, torch.OutOfMemoryError):
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, TypeError) and "keyword argument" in str(error):
            raise  # of the caller's
        raise SynthesizerLoadError(
            f"{path} must hold networks and a scheduler that fit their configuration and each other, got {error!r}. "
            "Fetch or save the model again."
        ) from error


def load_components(path: str | Path, revision: str | None = None) -> tuple[nn.Module, Any, nn.Module | None]:
    """(unet, scheduler, vae or None) of a pipeline folder, or of a pinned commit of a repository on the hub.

    Raises:
        SynthesizerLoadError: no such folder, pickled weights, a custom pipeline, or a class that is not one of
            diffusers' own.
    """
    folder = local_folder(path, revision)
    _check_index(folder)
    unet, scheduler = _home_of(folder, "unet"), load_scheduler(_scheduler_home(folder))
    vaes = [folder / name for name in ("vae", "vqvae") if (folder / name).is_dir()]
    if len(vaes) > 1:
        raise SynthesizerLoadError(f"`path` must hold vae/ or vqvae/, got both in {folder}. Remove the one not in use.")
    vae = load_net(vaes[0], VAES) if vaes else None
    return load_net(unet, UNETS), scheduler, vae


def _home_of(folder: Path, name: str) -> Path:
    """Where the network is: ``unet/``, or the folder itself as in the first repositories of diffusers."""
    if (folder / f"{name}_ema").is_dir():
        warnings.warn(
            f"{folder} is a checkpoint of a training run: the averaged weights in {name}_ema/ are loaded, as the "
            f"training script does at its end, and those in {name}/ are not.",
            stacklevel=5,
        )
        return folder / f"{name}_ema"
    if (folder / name).is_dir():
        return folder / name
    if (folder / "config.json").is_file():
        return folder
    raise SynthesizerLoadError(
        f"`path` must hold the folders unet/ and scheduler/, got {folder} without {name}/. Save a pipeline with "
        "pipeline.save_pretrained(path), or the parts with unet.save_pretrained(path + '/unet') and "
        "scheduler.save_pretrained(path + '/scheduler')."
    )


def _scheduler_home(folder: Path) -> Path | None:
    """Where ``scheduler_config.json`` is; None in a checkpoint of a training run, which has none."""
    for home in (folder / "scheduler", folder):
        if (home / "scheduler_config.json").exists():
            return home
    if not (folder / "unet_ema").is_dir():
        raise SynthesizerLoadError(
            f"`path` must hold the folders unet/ and scheduler/, got {folder} without scheduler/. Save a pipeline with "
            "pipeline.save_pretrained(path), or the scheduler alone with scheduler.save_pretrained(path + "
            "'/scheduler')."
        )
    warnings.warn(
        f"{folder} has no scheduler: DDPMScheduler() with diffusers' defaults is taken (1000 steps, linear betas, "
        "prediction of the noise), as its training script does. If the model was trained otherwise, write the right "
        "one there: scheduler.save_pretrained(path + '/scheduler').",
        stacklevel=4,
    )
    return None


def load_scheduler(folder: Path | None) -> Any:
    """The scheduler that ``scheduler_config.json`` describes; None: `DDPMScheduler` with its defaults."""
    if folder is None:
        return scheduler_from_config({"_class_name": "DDPMScheduler"}, "the defaults of diffusers")
    return scheduler_from_config(read_json(folder / "scheduler_config.json"), folder)


def scheduler_from_config(config: dict[str, Any], place: Path | str) -> Any:
    """A scheduler of diffusers' own from its configuration; any other class is refused."""
    import diffusers

    name = config.get("_class_name")
    known = isinstance(name, str) and name.endswith("Scheduler") and name in dir(diffusers)
    if not known:
        raise unknown_class(name, place, "a scheduler")
    check_numbers(config, str(place), MAX_TIMESTEPS)
    try:
        return getattr(diffusers, str(name)).from_config(config)
    except Exception as error:  # what a constructor raises at a setting that it does not know
        raise SynthesizerLoadError(
            f"{place} must hold settings that {name} knows, got {error!r}. Correct them, or save the scheduler again."
        ) from error


def net_class(config: dict[str, Any], allowed: tuple[str, ...], place: Path | str) -> Any:
    """The network class that a configuration names, if it is one of `allowed`."""
    import diffusers

    name = config.get("_class_name")
    if name not in allowed:
        raise unknown_class(name, place, " or ".join(allowed))
    return getattr(diffusers, name)


def check_home(pipeline: object, cls: str, folder: Path) -> None:
    """Raises `SynthesizerLoadError` where a folder of this pipeline belongs to another class than `cls`."""
    home = HOMES.get(str(pipeline), "DiffusersSynthesizer")
    if home != cls and str(pipeline) in HOMES:
        raise SynthesizerLoadError(
            f"`path` must hold a pipeline that {cls} samples, got {pipeline} in {folder}. Load it with "
            f"{home}.from_pretrained({str(folder)!r}, value_range=(0, 1))."
        )


def local_folder(path: str | Path, revision: str | None) -> Path:
    """The folder itself, or where a pinned commit of a repository on the hub was downloaded to."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    hub_id = str(path)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        raise SynthesizerLoadError(
            f"`path` must be a folder, got {hub_id!r}, which is none. "
            "A repository on the hub is named 'owner/name' and needs revision=<40 hexadecimal digits>."
        )
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise SynthesizerLoadError(
            f"`revision` must be a commit of 40 hexadecimal digits for {hub_id!r} (no such local folder), got "
            f"{revision!r}. A branch or tag can change, and the samples with it. Copy the commit from the repository's "
            "history page."
        )
    from huggingface_hub import snapshot_download

    patterns = ["model_index.json", "*/config.json", "*/scheduler_config.json", "*.safetensors", "*.index.json"]
    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns))


def _check_index(folder: Path) -> None:
    """Refuses folders whose ``model_index.json`` asks for code or components that would be left out."""
    import diffusers

    if not (folder / "model_index.json").exists():
        return
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    check_home(name, "DiffusersSynthesizer", folder)
    if not (isinstance(name, str) and name.endswith("Pipeline") and name in dir(diffusers)):
        raise unknown_class(name, folder / "model_index.json", "a pipeline")
    for component, entry in index.items():
        if component.startswith("_") or not isinstance(entry, list) or entry == [None, None]:
            continue
        if component not in ("unet", "scheduler", "vae", "vqvae") or entry[0] != "diffusers":
            raise SynthesizerLoadError(
                "`path` must hold a pipeline of unet, scheduler and at most a vae, all from diffusers; got "
                f"{component!r} = {entry} in {folder / 'model_index.json'}. Load such a pipeline yourself and wrap it "
                "as FunctionSynthesizer."
            )


def load_net(folder: Path, allowed: tuple[str, ...]) -> nn.Module:
    """The network of one subfolder, from safetensors."""
    return load_weights(net_class(read_json(folder / "config.json"), allowed, folder / "config.json"), folder)


def unknown_class(name: object, place: Path | str, expected: str) -> SynthesizerLoadError:
    """The error for a class that is not loaded."""
    return SynthesizerLoadError(
        f"`_class_name` must be {expected} of diffusers itself, got {name!r} at {place}. Code that comes with a model "
        "is never run. Build the parts yourself and pass them to DiffusersSynthesizer(unet, scheduler, …)."
    )
