"""The state of a training run on disk: each file replaced as a whole, checked by its sha256, and never unpickled."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchgenaug.checksums import fits_checksum, with_checksum
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.local_paths import make_folder
from torchgenaug.synthesizers.parts.model_files import MAX_JSON_BYTES, free_memory, read_file

RUN_FOLDER = "training"
"""Folder in the synthesizer's own that belongs to its training."""

_FILE, _RUN = "checkpoint.pt", "run.json"
_MAGIC = b"torchgenaug checkpoint 1\n"  # then 32 bytes of sha256, then what torch.save wrote


def begin(folder: Path, run: Mapping[str, Any]) -> bool:
    """Notes what is being run in `folder`; whether a run of the same kind was begun there before.

    Raises:
        ConfigurationError: the folder holds a run with other settings; they are listed.
        SynthesizerLoadError: a damaged ``run.json``.
    """
    path = folder / _RUN
    new = json.loads(json.dumps(run))
    if not path.exists():
        make_folder(folder)
        replace_file(path, (json.dumps(with_checksum(new), indent=2) + "\n").encode())
        return False
    old = _settings(path)
    differences = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differences:
        raise ConfigurationError(
            f"{folder} must hold a run with the same settings to be resumed, got differences: {'; '.join(differences)}."
            " Nothing was changed. Give the old settings, or another folder, or --fresh to begin again."
        )
    return True


def settings_of(folder: Path) -> dict[str, Any] | None:
    """What `begin` noted in `folder`; None if no run was begun there.

    Raises:
        SynthesizerLoadError: a damaged ``run.json``.
    """
    return _settings(folder / _RUN) if (folder / _RUN).exists() else None


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint, all or nothing; it names the run of ``run.json`` next to it."""
    draft = folder / f".{_FILE}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            file.write(_MAGIC + bytes(32))
            hashing = _Hashing(file)
            torch.save({**state, _RUN: _run_of(folder)}, hashing)  # type: ignore[arg-type]  # all that it needs
            file.seek(len(_MAGIC))
            file.write(hashing.digest.digest())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / _FILE)
    finally:
        draft.unlink(missing_ok=True)


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The last checkpoint; None if there is none yet.

    Raises:
        SynthesizerLoadError: a file that is not one, was damaged, or belongs to another run.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        content = read_file(path, free_memory())
        start = len(_MAGIC) + 32
        if content[: len(_MAGIC)] != _MAGIC:
            raise ValueError("another kind of file, or one of an older version")
        if hashlib.sha256(memoryview(content)[start:]).digest() != content[len(_MAGIC) : start]:
            raise ValueError("content and sha256 disagree: it was damaged")
        buffer = io.BytesIO(memoryview(content)[start:])
        state: dict[str, Any] = torch.load(buffer, map_location=device, weights_only=True)
        if state.pop(_RUN, None) not in (None, _run_of(folder)):  # None: of an older version
            raise ValueError("one of another run")
    except Exception as error:
        raise SynthesizerLoadError(
            f"{path} must be a checkpoint of this run, got {error!r}. Nothing was changed; the synthesizer that was "
            "saved last is still there. Begin the training again with --fresh."
        ) from error
    return state


def _run_of(folder: Path) -> str | None:
    """What tells the run of a folder from others."""
    return _digest(_settings(folder / _RUN)) if (folder / _RUN).exists() else None


class _Hashing:
    """A file to be written, of which the sha256 is taken on the way."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(read_file(path, MAX_JSON_BYTES))
        if "sha256" not in settings or not fits_checksum(settings):
            raise ValueError("content and sha256 disagree")
        del settings["sha256"]
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise SynthesizerLoadError(
            f"{path} must hold the settings of a run, got {error!r}. It was damaged, edited or written by an older "
            "version. Begin again with --fresh, or choose another folder."
        ) from error
    return dict(settings)


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file, all or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
