"""`data_fingerprint`: the sha256 of training data, and a note of it so that a run that goes on reads no file for it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from torchgenaug.recipes.checkpoint import replace_file
from torchgenaug.recipes.data.folder import FolderSamples
from torchgenaug.recipes.data.parts import Part, Planes
from torchgenaug.recipes.data.scan import ConformedSamples
from torchgenaug.recipes.data.training_data import SelectedSamples, TrainingData

_NOTE = "data.json"


def data_fingerprint(data: TrainingData) -> str:
    """sha256 over names, fields and ids of all samples and the content of every one, unless it varies."""
    digest = hashlib.sha256(_description(data))
    for row in () if data.varies else range(len(data)):
        sample = data.samples[row]
        for name in sorted(data.fields):
            digest.update(torch.as_tensor(sample[name]).contiguous().numpy().tobytes())
    return digest.hexdigest()


def noted_fingerprint(data: TrainingData, folder: Path) -> str:
    """`data_fingerprint`, as `note_fingerprint` noted it in `folder` if no file of the data has changed since.

    A file counts as unchanged while its size, its times of modification and of change, and its inode are the same.
    """
    files = files_fingerprint(data)
    try:
        note: Any = json.loads((folder / _NOTE).read_bytes())
        if files is not None and note["files"] == files and note["sha256"] == _seal(files, note["data_sha256"]):
            return str(note["data_sha256"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass  # none yet, or damaged: the data themselves are there
    return data_fingerprint(data)


def note_fingerprint(data: TrainingData, folder: Path, data_sha256: str) -> None:
    """Notes the fingerprint of data that are read from files each time; those in memory are hashed in no time."""
    files = files_fingerprint(data)
    if files is not None:
        note = {"files": files, "data_sha256": data_sha256, "sha256": _seal(files, data_sha256)}
        replace_file(folder / _NOTE, (json.dumps(note, indent=2) + "\n").encode())


def files_fingerprint(data: TrainingData) -> str | None:
    """sha256 over which files the samples are read from, and their state; None unless all come from files.

    Only names within the data folder and numbers go in.
    """
    rows, samples = list(range(len(data))), data.samples
    while isinstance(samples, SelectedSamples | ConformedSamples):
        if isinstance(samples, SelectedSamples):
            rows = [samples.rows[row] for row in rows]
        samples = samples.samples
    if not isinstance(samples, FolderSamples) or data.varies:
        return None
    digest = hashlib.sha256(_description(data))
    digest.update(repr((samples.spacing_mm, samples.num_channels)).encode())
    known: dict[Path, tuple[int, ...]] = {}
    for row in rows:
        record = samples.records[row]
        for part in (*record.image, *record.mask, *record.source):
            for path in _paths(part):
                if path not in known:
                    about = path.stat()
                    known[path] = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)
                digest.update(repr((path.name, known[path])).encode())
        digest.update(repr((record.key, record.label)).encode())
    return digest.hexdigest()


def _paths(part: Part) -> list[Path]:
    if isinstance(part, Planes):
        return [path for plane in part.parts for each in plane for path in _paths(each)]
    return [part if isinstance(part, Path) else part.path]


def _description(data: TrainingData) -> bytes:
    fields = {name: spec.to_json() for name, spec in data.fields.items()}
    return json.dumps([fields, list(data.ids)], sort_keys=True).encode()


def _seal(files: str, data_sha256: str) -> str:
    return hashlib.sha256(f"{files} {data_sha256}".encode()).hexdigest()
