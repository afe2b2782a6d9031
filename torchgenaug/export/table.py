"""The tables of an export: one line a sample, where it comes from and what class it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.contracts import SyntheticSource
from torchgenaug.types import FieldSpec

Row = dict[str, int | float | str]


def scalar_fields(fields: Mapping[str, FieldSpec]) -> dict[str, FieldSpec]:
    """The fields that are one number each."""
    return {name: spec for name, spec in fields.items() if spec.kind == "scalar" and spec.shape == ()}


def sample_rows(source: SyntheticSource, positions: Sequence[int]) -> list[Row]:
    """For each position ``id``, ``seed`` (16 hexadecimal digits), and the scalars of the sample."""
    at = np.asarray(positions, np.int64)
    columns: dict[str, list[Any]] = {
        "id": source.ids(at).tolist(),
        "seed": [f"{int(seed):016x}" for seed in source.seeds(at)],
    }
    for name in scalar_fields(source.fields):
        columns[name] = source.column(name)[at].tolist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def write_tables(
    rows: Sequence[Row],
    files: Sequence[Mapping[str, Path]],
    out: Path,
    *,
    class_names: Sequence[str] = (),
    for_datasets: bool = False,
) -> None:
    """Writes ``samples.csv`` and, where samples have a class, ``labels.csv``; for `datasets`, ``metadata.csv``.

    Args:
        rows: what `sample_rows` gave.
        files: field → file of each sample, relative to `out`.
        out: folder of the export.
        class_names: of ``label``; in ``metadata.csv`` the column ``class``.
        for_datasets: the layout ``imagefolder``, whose table lies in ``train`` and names files ``file_name``.
    """
    if for_datasets:
        named = [
            {
                ("file_name" if field == "image" else f"{field}_file_name"): path.relative_to("train").as_posix()
                for field, path in each.items()
            }
            for each in files
        ]
        classes = [
            {"class": _class_name(row["label"], class_names)} if class_names and "label" in row else {} for row in rows
        ]
        lines = [{**names, **row, **known} for names, row, known in zip(named, rows, classes, strict=True)]
        _write(out / "train" / "metadata.csv", lines)
        return
    paths = [{field: path.as_posix() for field, path in each.items()} for each in files]
    _write(out / "samples.csv", [{**names, **row} for names, row in zip(paths, rows, strict=True)])
    if rows and "label" in rows[0] and "image" in paths[0]:
        labels = [
            {"file": names["image"], "label": _class_name(row["label"], class_names)}
            for names, row in zip(paths, rows, strict=True)
        ]
        _write(out / "labels.csv", labels)


def _class_name(label: int | float | str, names: Sequence[str]) -> str:
    is_class = isinstance(label, int) and 0 <= label < len(names)
    return names[int(label)] if is_class else str(label)


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text.getvalue(), encoding="utf-8")
    draft.replace(path)
