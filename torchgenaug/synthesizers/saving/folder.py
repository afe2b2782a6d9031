"""Synthesizers on disk: safetensors and JSON, every file pinned by its sha256.

::

    folder/
      synthesizer.json                              format, version, family, settings, sha256 of all files, trained_on
      unet/config.json                              family "diffusers": the layout of a diffusers pipeline
      unet/diffusion_pytorch_model.safetensors
      scheduler/scheduler_config.json
      vae/…                                         with an autoencoder only
      networks/NAME.safetensors                     other families; synthesizer.json says how NAME is built
      tensors.safetensors                           fitted numbers that are no network
      parts/NAME/synthesizer.json, …                synthesizers inside this one

Only these names are ever opened, and nothing is unpickled or executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakValueDictionary

import torch

from torchgenaug.contracts import Storable, Stored, Synthesizer, device_of
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers.diffusion.layouts import pipeline_home
from torchgenaug.synthesizers.parts import storable
from torchgenaug.synthesizers.parts.json_file import read_json
from torchgenaug.synthesizers.parts.storable import json_bytes
from torchgenaug.synthesizers.saving import diffusers_layout

FORMAT, VERSION = "torchgenaug.synthesizer", 1
_INDEX = "synthesizer.json"

_loaded: WeakValueDictionary[tuple[str, ...], Any] = WeakValueDictionary()
_lock = threading.Lock()

_LAYOUTS: Mapping[str, ModuleType] = {"diffusers": diffusers_layout}


def _layout(family: str) -> ModuleType:
    """The module that writes and reads the files of a family: `encode`, `decode`, `check_files`."""
    return _LAYOUTS.get(family, storable)


def save_synthesizer(synthesizer: Synthesizer, path: str | Path, *, weights_dtype: torch.dtype | None = None) -> None:
    """Writes `synthesizer` to the new folder `path`, all or nothing.

    Args:
        synthesizer: any synthesizer of this package but `FunctionSynthesizer`. Networks that are not of diffusers must
            have been made by `build_network`.
        path: folder that does not exist yet (or is empty).
        weights_dtype: dtype of the weights on disk, for example torch.float16 for half the size; default: as they are.
            What is loaded computes in the same dtype as before, with the rounded weights: its samples differ a little
            from those of `synthesizer`, and so its fingerprint is another one (the one in ``synthesizer.json``).

    Raises:
        ConfigurationError: a synthesizer that cannot be saved, a folder with content, or weights too large for
            `weights_dtype`.
    """
    if weights_dtype not in (None, torch.float16, torch.bfloat16, torch.float32):
        raise ConfigurationError(
            f"`weights_dtype` must be torch.float16, bfloat16 or float32, got {weights_dtype!r}. Use None to keep the "
            "dtype."
        )
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigurationError(
            f"`path` must be a new folder, got {str(target)!r}, which exists. Nothing was written. "
            "Choose another name, or remove it first."
        )
    contents = _contents(synthesizer, weights_dtype)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for file, content in contents.items():
            (draft / file).parent.mkdir(parents=True, exist_ok=True)
            _write(draft / file, content)
        # mkdtemp makes private folders; the synthesizer gets the permissions of any new folder.
        mask = os.umask(0)
        os.umask(mask)
        draft.chmod(0o777 & ~mask)
        draft.rename(target)
        _sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def rewrite_synthesizer(synthesizer: Synthesizer, path: str | Path) -> None:
    """Writes `synthesizer` into the folder `path`, in place of one that may be there; other files are left alone.

    Each file is replaced as a whole, ``synthesizer.json`` last. Interrupted in between, the folder is refused by
    `load_synthesizer`, whose checksums then do not agree, until it is written again.
    """
    folder = Path(path)
    for file, content in _contents(synthesizer, None).items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        _write(draft, content)
        draft.replace(target)
    _sync_folder(folder)


def load_synthesizer(
    path: str | Path, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Any:
    """The synthesizer that `save_synthesizer` wrote, loaded once per process, path, device and dtype.

    A second call returns the same object while anyone still holds it. Safe in threads.

    Args:
        path: the folder.
        device: where to compute; default: CPU.
        dtype: compute dtype; default: the saved one.

    Returns:
        The synthesizer, of the class that was saved.

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
            # What is checked is what is used: every file is read once, and parsed from these very bytes.
            contents = {name: _verified(folder / name, digest) for name, digest in index["files"].items()}
            synthesizer = _loaded[key] = _assembled(index, contents, str(folder), place, dtype)
    return synthesizer


def _contents(synthesizer: Any, weights_dtype: torch.dtype | None) -> dict[str, bytes]:
    """File name → content of the whole folder, synthesizers inside included."""
    kept = synthesizer if weights_dtype is None else _rounded(synthesizer, weights_dtype)
    made_of = _stored(kept)
    entries: dict[str, Any]
    contents: dict[str, bytes]
    entries, contents = _layout(kept.family).encode(made_of, weights_dtype)
    for name, part in made_of.parts.items():
        inside = _contents(part, weights_dtype)
        contents |= {f"parts/{name}/{file}": content for file, content in inside.items()}
    index = {
        "format": FORMAT,
        "version": VERSION,
        "family": kept.family,
        "fingerprint": kept.fingerprint,
        **entries,
        "files": {file: hashlib.sha256(content).hexdigest() for file, content in sorted(contents.items())},
        "trained_on": None if synthesizer.trained_on is None else dict(synthesizer.trained_on),
    }
    return contents | {_INDEX: json_bytes(index)}


def _stored(synthesizer: Any) -> Stored:
    if not isinstance(synthesizer, Storable):
        raise ConfigurationError(
            f"`synthesizer` must be one that can be saved, got {type(synthesizer).__name__}. Put the code "
            "that builds it into a function of an importable module and name that where a saved folder is asked for: "
            "package.module:factory."
        )
    return synthesizer.stored()


def _rounded(synthesizer: Any, weights_dtype: torch.dtype) -> Any:
    """The synthesizer that will be loaded when the weights are stored in `weights_dtype`."""
    made_of = _stored(synthesizer)
    networks = {name: storable.rounded(network, name, weights_dtype) for name, network in made_of.networks.items()}
    parts = {name: _rounded(part, weights_dtype) for name, part in made_of.parts.items()}
    device = device_of(synthesizer)
    rounded: Any = type(synthesizer).from_stored(
        made_of._replace(networks=networks, parts=parts), device=device, dtype=None
    )
    rounded.trained_on = synthesizer.trained_on
    return rounded


def _assembled(
    index: Mapping[str, Any],
    contents: Mapping[str, bytes],
    place: str,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Any:
    try:
        family = index["family"]
        parts = {name: _part(name, contents, f"{place}/parts/{name}", device, dtype) for name in index.get("parts", ())}
        own = {file: content for file, content in contents.items() if not file.startswith("parts/")}
        made_of = _layout(family).decode(index, own, parts, place)
        synthesizer = storable.family_class(family).from_stored(made_of, device=device, dtype=dtype)
    except (SynthesizerLoadError, ConfigurationError, ImportError):
        raise
    except Exception as error:
        raise SynthesizerLoadError(
            f"{place} must hold weights that fit its configuration, got {error!r}. Save the synthesizer again."
        ) from error
    synthesizer.trained_on = index.get("trained_on")
    return synthesizer


def _part(name: str, contents: Mapping[str, bytes], place: str, device: torch.device, dtype: torch.dtype | None) -> Any:
    inside = {
        file.removeprefix(f"parts/{name}/"): content
        for file, content in contents.items()
        if file.startswith(f"parts/{name}/")
    }
    if _INDEX not in inside:
        raise SynthesizerLoadError(f"{place} must hold {_INDEX}, got {sorted(inside)}. Save the synthesizer again.")
    index = _checked_index(json.loads(inside.pop(_INDEX)), f"{place}/{_INDEX}")
    if set(index["files"]) != set(inside):
        raise SynthesizerLoadError(f"{place} must hold the files of its {_INDEX}. Save the synthesizer again.")
    return _assembled(index, inside, place, device, dtype)


def _read_index(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The checked content of ``synthesizer.json``, parsed and raw."""
    path = folder / _INDEX
    if not path.is_file():
        remedy = "Check the path, or write such a folder with save_synthesizer(synthesizer, path)."
        if (folder / "unet").is_dir() or (folder / "model_index.json").is_file():
            remedy = (
                "This is a plain diffusers folder; it does not say what the intensities are. Load it with "
                f"{pipeline_home(folder)}.from_pretrained({str(folder)!r}, value_range=(0, 1))."
            )
        raise SynthesizerLoadError(f"`path` must be a folder with {_INDEX}, got {str(folder)!r} without it. {remedy}")
    content = path.read_bytes()
    index = read_json(path)
    return _checked_index(index, str(path)), content


def _checked_index(index: Any, place: str) -> dict[str, Any]:
    if not isinstance(index, dict):
        raise SynthesizerLoadError(f"{place} must hold a JSON object. Save the synthesizer again.")
    version = index.get("version")
    if index.get("format") != FORMAT or not isinstance(version, int):
        raise SynthesizerLoadError(
            f"{place} must have the format {FORMAT!r} and a version, got {index.get('format')!r}, {version!r}. "
            "Save the synthesizer again."
        )
    if version > VERSION:
        raise SynthesizerLoadError(
            f"{place} must have version {VERSION} or older, got {version}. It was written by a newer torchgenaug. "
            "Upgrade: pip install -U torchgenaug"
        )
    family = index.get("family")
    storable.check_family(family, place)
    _layout(str(family)).check_files(index.get("files"), index.get("parts", []), place)
    return index


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
