"""Synthesizers on disk: safetensors and JSON, every file pinned by its sha256.

::

    folder/
      synthesizer.json                              format, version, family, settings, sha256 of all files and of
                                                    itself, trained_on
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
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from torchgenaug.bare_names import without_places
from torchgenaug.checksums import with_checksum
from torchgenaug.contracts import Storable, Stored, Synthesizer, device_of
from torchgenaug.errors import ConfigurationError
from torchgenaug.local_paths import expanded
from torchgenaug.synthesizers.parts import storable
from torchgenaug.synthesizers.parts.model_files import MAX_JSON_BYTES, has_too_many_values
from torchgenaug.synthesizers.parts.storable import json_bytes
from torchgenaug.synthesizers.saving import diffusers_layout

FORMAT, VERSION = "torchgenaug.synthesizer", 1
INDEX = "synthesizer.json"
READY = ".ready"
"""Folder in a synthesizer's folder that holds a newer one, whole, while it takes the place of the old files."""

_LAYOUTS: Mapping[str, ModuleType] = {"diffusers": diffusers_layout}


def layout_of(family: str) -> ModuleType:
    """The module that writes and reads the files of a family: `encode`, `decode`, `check_files`."""
    return _LAYOUTS.get(family, storable)


def save_synthesizer(synthesizer: Synthesizer, path: str | Path, *, weights_dtype: torch.dtype | None = None) -> None:
    """Writes `synthesizer` to the new folder `path`, all or nothing.

    Args:
        synthesizer: any synthesizer of this package but those of code: `FunctionSynthesizer`, `TransformedSynthesizer`,
            and `LabelsToImageSynthesizer` with a transform of its own. Networks that are not of diffusers must have
            been made by `build_network`.
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
    target = expanded(path)
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

    Whenever it is interrupted, `load_synthesizer` finds the old synthesizer or the new one, whole: the new one is first
    written into a folder next to the old files, which counts from its last rename on, and then put in their place.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    _finish_rewrite(folder)
    draft, ready = folder / f"{READY}.draft", folder / READY
    shutil.rmtree(draft, ignore_errors=True)
    for file, content in _contents(synthesizer, None).items():
        (draft / file).parent.mkdir(parents=True, exist_ok=True)
        _write(draft / file, content)
    draft.rename(ready)
    _sync_folder(folder)
    _finish_rewrite(folder)


def _finish_rewrite(folder: Path) -> None:
    """Puts a synthesizer that is whole in ``READY`` in the place of the old files, the index last."""
    ready = folder / READY
    if not (ready / INDEX).exists():
        shutil.rmtree(ready, ignore_errors=True)
        return
    files = sorted(
        (each.relative_to(ready) for each in ready.rglob("*") if each.is_file()), key=lambda f: str(f) == INDEX
    )
    for file in files:
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(ready / file, draft)
        _sync_file(draft)
        draft.replace(target)
    _sync_folder(folder)
    done = folder / f"{READY}.done"
    shutil.rmtree(done, ignore_errors=True)
    ready.rename(done)  # at once, where removing file by file could be interrupted
    shutil.rmtree(done, ignore_errors=True)


def _contents(synthesizer: Any, weights_dtype: torch.dtype | None) -> dict[str, bytes]:
    """File name → content of the whole folder, synthesizers inside included."""
    kept = synthesizer if weights_dtype is None else _rounded(synthesizer, weights_dtype)
    made_of = _stored(kept)
    entries: dict[str, Any]
    contents: dict[str, bytes]
    entries, contents = layout_of(kept.family).encode(made_of, weights_dtype)
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
        "trained_on": without_places(synthesizer.trained_on),
    }
    return contents | {INDEX: _readable(json_bytes(with_checksum(index)))}


def _readable(index: bytes) -> bytes:
    """The content of ``synthesizer.json``, if it is one that `load_synthesizer` will read."""
    if len(index) > MAX_JSON_BYTES or has_too_many_values(index):
        raise ConfigurationError(
            f"`trained_on` must be short enough to be read again, got {len(index):,} bytes of {INDEX} (at most "
            f"{MAX_JSON_BYTES:,}, and a million values). Nothing was written. Name the samples by shorter identifiers."
        )
    return index


def _stored(synthesizer: Any) -> Stored:
    if not isinstance(synthesizer, Storable):
        raise ConfigurationError(
            f"`synthesizer` must be one that can be saved, got {type(synthesizer).__name__}. Put the code "
            "that builds it into a function of an importable module and name that where a saved folder is expected: "
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


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
