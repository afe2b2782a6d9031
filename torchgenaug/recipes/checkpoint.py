"""The state of a training run on disk: one file, replaced as a whole, read without unpickling anything but tensors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.recipes.data.training_data import TrainingData

_FILE, _RUN = "checkpoint.pt", "run.json"


def data_fingerprint(data: TrainingData) -> str:
    """sha256 over names, fields and ids of all samples, and the content of up to 64 of them, unless it varies."""
    digest = hashlib.sha256()
    fields = {name: spec.to_json() for name, spec in data.fields.items()}
    digest.update(json.dumps([fields, list(data.ids)], sort_keys=True).encode())
    for row in () if data.varies else range(0, len(data), max(1, len(data) // 64)):
        sample = data.samples[row]
        for name in sorted(data.fields):
            digest.update(torch.as_tensor(sample[name]).contiguous().numpy().tobytes())
    return digest.hexdigest()


def begin(folder: Path, run: Mapping[str, Any]) -> bool:
    """Notes what is being run in `folder`; whether a run of the same kind was begun there before.

    Raises:
        ConfigurationError: the folder holds a run with other settings; they are listed.
    """
    path = folder / _RUN
    new = json.loads(json.dumps(run))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _replace(path, (json.dumps(new, indent=2) + "\n").encode())
        return False
    old = json.loads(path.read_text())
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


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint, all or nothing."""
    draft = folder / f".{_FILE}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / _FILE)
    finally:
        draft.unlink(missing_ok=True)


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The last checkpoint; None if there is none yet.

    Raises:
        SynthesizerLoadError: a file that is not one.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise SynthesizerLoadError(
            f"{path} must be a checkpoint of this run, got {error!r}. Begin again with --fresh."
        ) from error
    return state


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)
