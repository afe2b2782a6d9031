"""Reads diffusers pipeline folders without executing anything in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.parts.json_file import read_json

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
_WEIGHTS = "diffusion_pytorch_model"


def load_components(path: str | Path, revision: str | None = None) -> tuple[nn.Module, Any, nn.Module | None]:
    """(unet, scheduler, vae or None) of a pipeline folder, or of a pinned commit of a repository on the hub.

    Raises:
        SynthesizerLoadError: no such folder, pickled weights, a custom pipeline, or a class that is not one of
            diffusers' own.
    """
    folder = local_folder(path, revision)
    _check_index(folder)
    for name in ("unet", "scheduler"):
        if not (folder / name).is_dir():
            raise SynthesizerLoadError(
                f"`path` must hold the folders unet/ and scheduler/, got {folder} without {name}/. Save a pipeline "
                "with pipeline.save_pretrained(path), or the parts with unet.save_pretrained(path + '/unet') and "
                "scheduler.save_pretrained(path + '/scheduler')."
            )
    vaes = [folder / name for name in ("vae", "vqvae") if (folder / name).is_dir()]
    if len(vaes) > 1:
        raise SynthesizerLoadError(f"`path` must hold vae/ or vqvae/, got both in {folder}. Remove the one not in use.")
    vae = load_net(vaes[0], VAES) if vaes else None
    return load_net(folder / "unet", UNETS), load_scheduler(folder / "scheduler"), vae


def load_scheduler(folder: Path) -> Any:
    """The scheduler that ``scheduler_config.json`` describes."""
    return scheduler_from_config(read_json(folder / "scheduler_config.json"), folder)


def scheduler_from_config(config: dict[str, Any], place: Path | str) -> Any:
    """A scheduler of diffusers' own from its configuration; any other class is refused."""
    import diffusers

    name = config.get("_class_name")
    known = isinstance(name, str) and name.endswith("Scheduler") and name in dir(diffusers)
    if not known:
        raise unknown_class(name, place, "a scheduler")
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
    cls = net_class(read_json(folder / "config.json"), allowed, folder / "config.json")
    weights = sorted(file.name for file in folder.glob(f"{_WEIGHTS}*"))
    variants = [name for name in weights if name.endswith(".safetensors")]
    if not variants:
        raise SynthesizerLoadError(
            f"{folder} must hold weights as {_WEIGHTS}.safetensors, got {weights or 'none'}. Pickled weights can run "
            "any code and are not loaded. If you trust the file, convert it once: "
            f"{cls.__name__}.from_pretrained({str(folder)!r}, use_safetensors=False).save_pretrained({str(folder)!r})."
        )
    # A folder with float16 weights only has them as "….fp16.safetensors" or "….fp16-00001-of-00002.safetensors".
    named = re.match(rf"{_WEIGHTS}\.(\w+?)(-\d+-of-\d+)?\.safetensors$", variants[0])
    plain = any(re.match(rf"{_WEIGHTS}(-\d+-of-\d+)?\.safetensors$", name) for name in variants)
    variant = None if plain or named is None else named[1]
    try:
        net, loaded = cls.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            variant=variant,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise SynthesizerLoadError(
            f"{folder} must hold weights that fit its config.json, got {error!r}. Save the model again."
        ) from error
    # diffusers warns of these, and leaves random numbers where weights are missing.
    wrong = {kind: sorted(map(str, loaded[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    # Tables that older versions wrote into the file are made anew by the network.
    wrong["unexpected_keys"] = sorted(set(wrong["unexpected_keys"]) - {name for name, _ in net.named_buffers()})
    if any(wrong.values()):
        counted = ", ".join(f"{len(keys)} {kind} ({keys[0]} …)" for kind, keys in wrong.items() if keys)
        raise SynthesizerLoadError(
            f"{folder} must hold the weights of the network in its config.json, got {counted}. It would sample noise. "
            "Take weights and config.json from the same model."
        )
    made: nn.Module = net
    return made


def unknown_class(name: object, place: Path | str, expected: str) -> SynthesizerLoadError:
    """The error for a class that is not loaded."""
    return SynthesizerLoadError(
        f"`_class_name` must be {expected} of diffusers itself, got {name!r} at {place}. Code that comes with a model "
        "is never run. Build the parts yourself and pass them to DiffusersSynthesizer(unet, scheduler, …)."
    )
