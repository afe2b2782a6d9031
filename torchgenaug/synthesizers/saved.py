"""Synthesizers on disk: safetensors weights in the diffusers layout, pinned by their sha256.

::

    folder/
      synthesizer.json                              format, version, settings, sha256 of every other file, trained_on
      unet/config.json
      unet/diffusion_pytorch_model.safetensors
      scheduler/scheduler_config.json
      vae/…                                         with an autoencoder only

Only these names are ever opened, and nothing is unpickled or executed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import nn

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers import pipelines
from torchgenaug.synthesizers.diffusers import DiffusersSynthesizer

FORMAT, VERSION = "torchgenaug.synthesizer", 1
_INDEX = "synthesizer.json"
_CONFIG, _WEIGHTS, _SCHEDULER = "config.json", "diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"
_NETS = {"unet": pipelines.UNETS, "vae": pipelines.VAES}

_loaded: WeakValueDictionary[tuple[str, ...], DiffusersSynthesizer] = WeakValueDictionary()
_lock = threading.Lock()


def save_synthesizer(
    synthesizer: DiffusersSynthesizer, path: str | Path, *, weights_dtype: torch.dtype | None = None
) -> None:
    """Writes `synthesizer` to the new folder `path`, all or nothing.

    Args:
        synthesizer: a `DiffusersSynthesizer`.
        path: folder that does not exist yet (or is empty).
        weights_dtype: dtype of the weights on disk, for example torch.float16 for half the size; default: as they are.
            What is loaded computes in the same dtype as before, with the rounded weights: its samples differ a little
            from those of `synthesizer`, and so its fingerprint is another one (the one in ``synthesizer.json``).

    Raises:
        ConfigurationError: another kind of synthesizer, a folder with content, or weights too large for
            `weights_dtype`.
    """
    if not isinstance(synthesizer, DiffusersSynthesizer):
        raise ConfigurationError(
            f"`synthesizer` must be a DiffusersSynthesizer to be saved, got {type(synthesizer).__name__}. Put the code "
            "that builds it into a function of an importable module and name that where a saved folder is asked for: "
            "package.module:factory."
        )
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigurationError(
            f"`path` must be a new folder, got {str(target)!r}, which exists. Nothing was written. "
            "Choose another name, or remove it first."
        )
    stored = synthesizer if weights_dtype is None else _rounded(synthesizer, weights_dtype)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        files = _write_components(stored, draft, weights_dtype)
        index = {
            "format": FORMAT,
            "version": VERSION,
            "family": "diffusers",
            "fingerprint": stored.fingerprint,
            "settings": stored.settings,
            "files": files,
            "trained_on": None if synthesizer.trained_on is None else dict(synthesizer.trained_on),
        }
        _write(draft / _INDEX, (json.dumps(index, indent=2) + "\n").encode())
        # mkdtemp makes private folders; the synthesizer gets the permissions of any new folder.
        draft.chmod((draft / "unet").stat().st_mode)
        draft.rename(target)
        _sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def load_synthesizer(
    path: str | Path, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> DiffusersSynthesizer:
    """The synthesizer that `save_synthesizer` wrote, loaded once per process, path, device and dtype.

    A second call returns the same object while anyone still holds it. Safe in threads.

    Args:
        path: the folder.
        device: where to compute; default: CPU.
        dtype: compute dtype; default: the saved one.

    Raises:
        SynthesizerLoadError: not such a folder, written by a newer torchgenaug, or a file whose sha256 is not the
            recorded one. Nothing of it was used then.
    """
    folder = Path(path).resolve()
    place = torch.device("cpu") if device is None else torch.device(device)
    index, content = _read_index(folder)
    key = (str(folder), str(place), str(dtype), hashlib.sha256(content).hexdigest())
    with _lock:
        synthesizer = _loaded.get(key)
        if synthesizer is None:
            synthesizer = _loaded[key] = _load(folder, index, place, dtype)
    return synthesizer


def _rounded(synthesizer: DiffusersSynthesizer, weights_dtype: torch.dtype) -> DiffusersSynthesizer:
    """The synthesizer that will be loaded when the weights are stored in `weights_dtype`."""
    if weights_dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise ConfigurationError(
            f"`weights_dtype` must be torch.float16, bfloat16 or float32, got {weights_dtype!r}. Use None to keep the "
            "dtype."
        )
    nets = {name: copy.deepcopy(net) for name, net in (("unet", synthesizer.unet), ("vae", synthesizer.vae)) if net}
    for name, net in nets.items():
        nn.Module.to(net, dtype=weights_dtype)
        for parameter, values in net.state_dict().items():
            if not values.isfinite().all():
                raise ConfigurationError(
                    f"`weights_dtype` must hold every weight, got {weights_dtype}, in which {name}.{parameter} "
                    "overflows. Use torch.bfloat16 or None."
                )
    return _build(nets, synthesizer.scheduler, synthesizer.settings, synthesizer.device, None)


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
    )


def _write_components(
    synthesizer: DiffusersSynthesizer, folder: Path, weights_dtype: torch.dtype | None
) -> dict[str, str]:
    """Writes networks and scheduler; returns file name → sha256."""
    from safetensors.torch import save

    contents = {_SCHEDULER: _config_json(synthesizer.scheduler)}
    for name, net in (("unet", synthesizer.unet), ("vae", synthesizer.vae)):
        if net is not None:
            tensors = {key: _stored(value, weights_dtype) for key, value in net.state_dict().items()}
            contents[f"{name}/{_CONFIG}"] = _config_json(net)
            contents[f"{name}/{_WEIGHTS}"] = save(tensors, metadata={"format": "pt"})
    for file, content in contents.items():
        (folder / file).parent.mkdir(exist_ok=True)
        _write(folder / file, content)
    return {file: hashlib.sha256(content).hexdigest() for file, content in sorted(contents.items())}


def _config_json(component: Any) -> bytes:
    config = json.loads(component.to_json_string())
    # Where the component was once loaded from is nobody's business.
    config.pop("_name_or_path", None)
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def _stored(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return value.cpu().to(dtype if value.is_floating_point() else None).contiguous()


def _read_index(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The checked content of ``synthesizer.json``, parsed and raw."""
    path = folder / _INDEX
    if not path.is_file():
        remedy = "Check the path, or write such a folder with save_synthesizer(synthesizer, path)."
        if (folder / "unet").is_dir():
            remedy = (
                "This is a plain diffusers folder; it does not say what the intensities are. Load it with "
                f"DiffusersSynthesizer.from_pretrained({str(folder)!r}, value_range=(0, 1))."
            )
        raise SynthesizerLoadError(f"`path` must be a folder with {_INDEX}, got {str(folder)!r} without it. {remedy}")
    content = path.read_bytes()
    index = pipelines.read_json(path)
    version = index.get("version")
    if index.get("format") != FORMAT or not isinstance(version, int):
        raise SynthesizerLoadError(
            f"{path} must have the format {FORMAT!r} and a version, got {index.get('format')!r}, {version!r}. "
            "Save the synthesizer again."
        )
    if version > VERSION:
        raise SynthesizerLoadError(
            f"{path} must have version {VERSION} or older, got {version}. It was written by a newer torchgenaug. "
            "Upgrade: pip install -U torchgenaug"
        )
    if index.get("family") != "diffusers":
        raise SynthesizerLoadError(
            f"`family` must be 'diffusers', got {index.get('family')!r} at {path}. Build such a model in code and pass "
            "it as package.module:factory."
        )
    required = {_SCHEDULER, f"unet/{_CONFIG}", f"unet/{_WEIGHTS}"}
    known = required | {f"vae/{_CONFIG}", f"vae/{_WEIGHTS}"}
    files = index.get("files")
    if not isinstance(files, dict) or set(files) not in (required, known):
        raise SynthesizerLoadError(
            f"`files` must name {sorted(required)} (and vae/), got "
            f"{sorted(files) if isinstance(files, dict) else files!r} at {path}. Nothing else is opened: no pickles, "
            "no paths outside the folder. Save the synthesizer again."
        )
    return index, content


def _load(folder: Path, index: dict[str, Any], device: torch.device, dtype: torch.dtype | None) -> DiffusersSynthesizer:
    # What is checked is what is used: every file is read once, and parsed from these very bytes.
    contents = {name: _verified(folder / name, digest) for name, digest in index["files"].items()}
    try:
        scheduler = pipelines.scheduler_from_config(json.loads(contents[_SCHEDULER]), folder / _SCHEDULER)
        nets = {name: _net(name, contents, folder) for name in _NETS if f"{name}/{_CONFIG}" in contents}
        synthesizer = _build(nets, scheduler, index["settings"], device, dtype)
    except (SynthesizerLoadError, ConfigurationError):
        raise
    except Exception as error:
        raise SynthesizerLoadError(
            f"{folder} must hold weights that fit its configuration, got {error!r}. Save the synthesizer again."
        ) from error
    synthesizer.trained_on = index.get("trained_on")
    return synthesizer


def _net(name: str, contents: Mapping[str, bytes], folder: Path) -> nn.Module:
    from safetensors.torch import load

    config = json.loads(contents[f"{name}/{_CONFIG}"])
    net: nn.Module = pipelines.net_class(config, _NETS[name], folder / name / _CONFIG).from_config(config)
    # assign: the weights keep the dtype of the file until the synthesizer converts them.
    net.load_state_dict(load(contents[f"{name}/{_WEIGHTS}"]), assign=True)
    return net


def _verified(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SynthesizerLoadError(f"{path} must be readable, got {error!r}. Save the synthesizer again.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise SynthesizerLoadError(
            f"{path} must have sha256 {digest}, got {found}. The file was damaged or exchanged; nothing of it was "
            "used. Fetch or save the synthesizer again."
        )
    return content


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
