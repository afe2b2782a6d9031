"""Real data split by patient: what a model is trained on, and what it never sees; saved with the model."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.bare_names import bare_name
from torchgenaug.checksums import read_entries, with_checksum
from torchgenaug.errors import ConfigurationError
from torchgenaug.pseudonyms import anonymous, is_among
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.seeding import derive, permutation

SPLIT_NAME = "split.json"
_FORMAT = "torchgenaug-split 1"
_USUAL = ("images", "image", "masks", "mask", "labels", "train", "test", "data", "folder", "scans", "patients")
_STREAM = 211  # key of `derive`: no other stream of numbers begins with it


@dataclass(frozen=True)
class SavedSplit:
    """What ``split.json`` states.

    Attributes:
        train: ids of the samples to train on.
        held_out: ids of the samples that no training sees.
    """

    train: frozenset[str]
    held_out: frozenset[str]

    def of(self, data: TrainingData) -> tuple[TrainingData, TrainingData]:
        """The two parts of `data`.

        Raises:
            ConfigurationError: samples that the split does not know, or none of one part.
        """
        rows: dict[str, list[int]] = {"train": [], "held_out": []}
        in_train, in_held_out = is_among(data.ids, self.train), is_among(data.ids, self.held_out)
        for row, both in enumerate(zip(in_train, in_held_out, strict=True)):
            if any(both):
                rows["train" if both[0] else "held_out"].append(row)
        unknown = len(data) - sum(map(len, rows.values()))
        if unknown or not all(rows.values()):
            raise ConfigurationError(
                f"A saved split must be of these data, got {len(rows['train'])} samples to train on, "
                f"{len(rows['held_out'])} held out and {unknown} that it does not know in {data.name!r}. Give the data "
                "that were split, or split them anew: torchgenaug fit … --split patients."
            )
        return data.select(rows["train"]), data.select(rows["held_out"])


def split_patients(data: TrainingData, held_out: float = 0.2, seed: int = 0) -> tuple[TrainingData, TrainingData]:
    """Two parts, whole patients each, with about the same share of every class in both.

    Deterministic, whatever the order of the samples. A patient counts for the class that most of its samples have.

    Args:
        data: samples whose patients are known.
        held_out: fraction of the patients, in (0, 1).
        seed: of the draw.

    Raises:
        ConfigurationError: patients are unknown, a fraction outside (0, 1), or nothing left on one side.

    Example:
        >>> import torch
        >>> from torchgenaug.recipes.data.training_data import TensorSamples
        >>> from torchgenaug.types import FieldSpec
        >>> samples = TensorSamples({"image": torch.rand(6, 1, 8, 8)})
        >>> patients = ("a", "a", "b", "b", "c", "d")
        >>> fields = {"image": FieldSpec((1, 8, 8), value_range=(0, 1))}
        >>> data = TrainingData(samples, fields, tuple("123456"), "scans", patients)
        >>> train, others = split_patients(data, 0.25)
        >>> sorted(set(train.patients) & set(others.patients)), len(set(others.patients))
        ([], 1)
    """
    if not data.patients:
        raise ConfigurationError(
            f"Data that are split by patient must state whose each sample is, got none in {data.name!r}. Two images of "
            "one patient could fall on both sides. Put sub-XXX into their paths, or a column patient into labels.csv."
        )
    if not 0 < held_out < 1:
        raise ConfigurationError(f"`held_out` must be between 0 and 1, got {held_out!r}. Try held_out=0.2.")
    groups = _by_class(data)
    total = sum(map(len, groups.values()))
    chosen: set[str] = set()
    before = 0
    # Shares add up over the classes, so that rounding errors do not.
    for label, patients in sorted(groups.items()):
        before += len(patients)
        wanted = max(1, round(held_out * total)) if before == total else round(held_out * before)
        take = min(max(0, wanted - len(chosen)), len(patients))
        order = permutation(int(derive(seed, _STREAM, label) >> np.uint64(1)), len(patients))
        chosen |= {patients[row] for row in order[:take]}
    if len(chosen) >= total:
        raise ConfigurationError(
            f"`held_out` must leave something to train on, got {held_out!r} of {total} patient(s). Add data."
        )
    rows: dict[bool, list[int]] = {False: [], True: []}
    for row, patient in enumerate(data.patients):
        rows[patient in chosen].append(row)
    return data.select(rows[False]), data.select(rows[True])


def anonymised(data: TrainingData) -> TrainingData:
    """The data with pseudonyms in place of ids and patients: everything that is written names these.

    How a folder was read is left out, too: patterns and paths of tables are texts of the user's. So are names in what
    is said of the data, and that of their folder, which may be a patient's.
    """
    return replace(
        data,
        name=anonymous(bare_name(data.name)) if Path(data.name).exists() else data.name,
        remarks=tuple(_without_names(data)),
        ids=tuple(anonymous(each) for each in data.ids),
        patients=tuple(anonymous(each) for each in data.patients),
        reading={},
    )


def _without_names(data: TrainingData) -> Iterator[str]:
    """The remarks, with a pseudonym in the place of each name of a sample, of its folders and of a patient."""
    parts = {part for each in data.ids for part in (each, *each.split("/"))}
    stems = {stem for part in parts if not (stem := part.partition(".")[0]).isdigit()}  # counts are numbers, too
    every = {*parts, *stems, *data.patients, bare_name(data.name)} - {*data.class_names, *_USUAL}
    names = {each for each in every if len(each) > 1}
    for remark in data.remarks:
        known = sorted((each for each in names if each in remark), key=len, reverse=True)
        words = "|".join(rf"(?<!\w){re.escape(each)}(?!\w)" for each in known)
        yield re.sub(words, lambda found: anonymous(found[0]), remark) if known else remark


def write_split(
    folder: Path, train: TrainingData, held_out: TrainingData, fraction: float, seed: int, *, fresh: bool = False
) -> None:
    """Writes ``split.json``: ids and patients of both parts.

    Raises:
        ConfigurationError: the folder holds another split, and `fresh` is False.
    """
    content: dict[str, Any] = {
        "format": _FORMAT,
        "data": bare_name(train.name),
        "by": "patients",
        "fraction": fraction,
        "seed": seed,
    }
    for name, part in (("train", train), ("held_out", held_out)):
        content[name] = {"samples": list(part.ids), "patients": sorted(set(part.patients))}
    known = None if fresh else read_split(folder)
    if known is not None and known != SavedSplit(frozenset(train.ids), frozenset(held_out.ids)):
        raise ConfigurationError(
            f"A run that goes on must keep its split, got another one than that in {folder / SPLIT_NAME}: "
            f"{len(known.held_out)} samples are held out there, {len(held_out)} now. Nothing was changed. Give the old "
            "data, fraction and seed, or another folder, or --fresh to begin again."
        )
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{SPLIT_NAME}.{os.getpid()}"
    draft.write_text(json.dumps(with_checksum(content), indent=2) + "\n", encoding="utf-8")
    draft.replace(folder / SPLIT_NAME)


def read_split(path: Path) -> SavedSplit | None:
    """The split of a model's folder, or of the file itself; None where there is none.

    Raises:
        ConfigurationError: a file that is no split.
    """
    file = path / SPLIT_NAME if path.is_dir() else path
    if file.name != SPLIT_NAME or not file.is_file():
        return None
    try:
        content = read_entries(file)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}")
        parts = [frozenset(map(str, _samples(content[name]))) for name in ("train", "held_out")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{file} must be a split that `torchgenaug fit --split patients` wrote, got {error!r}. Nothing was read. "
            "Restore it, or split the data anew."
        ) from error
    return SavedSplit(parts[0], parts[1])


def _samples(part: Mapping[str, Any]) -> list[str]:
    samples: list[str] = part["samples"]
    return samples


def _by_class(data: TrainingData) -> dict[int, list[str]]:
    """The patients of each class, sorted by name."""
    labels = data.labels()
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for row, patient in enumerate(data.patients):
        counts[patient][0 if labels is None else int(labels[row])] += 1
    groups: dict[int, list[str]] = defaultdict(list)
    for patient in sorted(counts):
        most = max(counts[patient].values())
        groups[min(each for each, count in counts[patient].items() if count == most)].append(patient)
    return groups
