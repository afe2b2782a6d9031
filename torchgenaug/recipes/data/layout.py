"""What the files of a folder mean: which is an image, a mask, a source, of which class and patient."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.data.files import READERS, dicom_patient, stem_of, suffix_of

_TABLE = "labels.csv"
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "held_out"}
_PATIENT = re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+")


@dataclass(frozen=True)
class FileRecord:
    """The files of one sample.

    Args:
        image: the image file.
        key: its path below the folder, which is the sample's id.
        mask, source: the files that belong to it.
        label: number of its class.
        patient: whose image it is, where that is known.
    """

    image: Path
    key: str
    mask: Path | None = None
    source: Path | None = None
    label: int | None = None
    patient: str | None = None


def read_layout(folder: Path) -> tuple[list[FileRecord], tuple[str, ...]]:
    """The samples of a folder in the order of their paths, and the names of the classes.

    Layouts: images directly in the folder; one subfolder per class; ``images/`` beside ``masks/`` or ``sources/`` or
    both, matched by path and name without ending. ``labels.csv`` (columns ``file``, ``label`` and perhaps ``patient``)
    names classes instead of subfolders. A patient is ``sub-XXX`` in the path, or who a DICOM file says, as a pseudonym.

    Raises:
        EmptyDatasetError: no image that can be read.
        ConfigurationError: files without their partner, a table that does not fit, one class only.
    """
    inner = folder / "images"
    root = inner if inner.is_dir() else folder
    images = _by_key(root)
    if not images:
        raise EmptyDatasetError(
            f"{root} must hold images ({', '.join(READERS)}), got none of {sum(1 for _ in root.rglob('*'))} entries. "
            "Check the path."
        )
    records = [
        FileRecord(path, path.relative_to(folder).as_posix(), patient=_patient(path, folder))
        for path in images.values()
    ]
    for part in ("masks", "sources"):
        if root is inner and (folder / part).is_dir():
            partners = _partners(images, folder / part)
            pairs = zip(records, partners, strict=True)
            if part == "masks":
                records = [replace(each, mask=path) for each, path in pairs]
            else:
                records = [replace(each, source=path) for each, path in pairs]
    table = folder / _TABLE
    if table.exists():
        return _with_table(records, root, table)
    return _with_class_folders(records, root, list(images))


def _by_key(root: Path) -> dict[str, Path]:
    """Path below `root` without ending → file, sorted; hidden files and other kinds are left out."""
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if hidden or not suffix_of(path) or not path.is_file():
            continue
        key = (path.relative_to(root).parent / stem_of(path)).as_posix()
        if key in found:
            raise ConfigurationError(
                f"Names without their endings must be distinct, got {found[key].name} and {path.name} in "
                f"{path.parent}. Remove one."
            )
        found[key] = path
    return found


def _partners(images: Mapping[str, Path], folder: Path) -> list[Path]:
    others = _by_key(folder)
    for have, lack, what in ((images, others, folder), (others, images, next(iter(images.values())).parent)):
        missing = [key for key in have if key not in lack]
        if missing:
            raise ConfigurationError(
                f"Every file must have a partner of the same name in {what}, got none for {len(missing)}: "
                f"{', '.join(str(have[key]) for key in missing[:3])}. Add them, or remove these."
            )
    return [others[key] for key in images]


def _with_class_folders(
    records: list[FileRecord], root: Path, keys: Sequence[str]
) -> tuple[list[FileRecord], tuple[str, ...]]:
    tops = [key.split("/")[0] if "/" in key else "" for key in keys]
    names = sorted(set(tops))
    if "" in names or all(_PATIENT.fullmatch(name) for name in names):
        return records, ()
    if {name.lower() for name in names} <= _SPLITS:
        raise ConfigurationError(
            f"DATA must be one part of a split, got {root}, which holds {', '.join(names)}. Give {root / names[0]}."
        )
    if len(names) < 2:
        raise ConfigurationError(
            f"Subfolders are classes, and there must be two at least, got only {names[0]!r} in {root}. Give "
            f"{root / names[0]} to train on one class."
        )
    return [replace(each, label=names.index(top)) for each, top in zip(records, tops, strict=True)], tuple(names)


def _with_table(records: list[FileRecord], root: Path, table: Path) -> tuple[list[FileRecord], tuple[str, ...]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if not {"file", "label"} <= set(columns):
            raise ConfigurationError(
                f"{table} must have the columns file and label (and perhaps patient), got "
                f"{', '.join(columns) or 'none'}. Write them in its first line."
            )
        rows = {Path(row["file"]).as_posix(): row for row in reader}
    chosen = [_row(each, root, table, rows) for each in records]
    unused = rows.keys() - {row["file_found"] for row in chosen}
    if unused:
        raise ConfigurationError(
            f"{table} must name files that are there, got {len(unused)} that are not: {', '.join(sorted(unused)[:3])}. "
            f"Write paths below {table.parent}."
        )
    names = sorted(
        {row["label"] for row in chosen},
        key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name),
    )
    if len(names) < 2:
        raise ConfigurationError(f"{table} must name two classes at least, got only {names[0]!r}. Remove the table.")
    labelled = [
        replace(each, label=names.index(row["label"]), patient=row.get("patient") or each.patient)
        for each, row in zip(records, chosen, strict=True)
    ]
    counts = [str(number) for number in range(len(names))]
    return labelled, () if names == counts else tuple(names)


def _row(record: FileRecord, root: Path, table: Path, rows: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The row of an image, named by its path below the folder or below ``images/``."""
    for key in (record.key, record.image.relative_to(root).as_posix()):
        if key in rows:
            return {**rows[key], "file_found": key}
    raise ConfigurationError(
        f"{table} must name every image, got none for {record.key}. Add the line {record.key},<label>"
    )


def _patient(path: Path, folder: Path) -> str | None:
    found = _PATIENT.search(path.relative_to(folder).as_posix())
    if found:
        return found.group()
    return dicom_patient(path) if suffix_of(path) == ".dcm" else None


def patients_of(records: Sequence[FileRecord]) -> tuple[str, ...]:
    """Whose each sample is; empty where nobody is known.

    Raises:
        ConfigurationError: patients of some samples only.
    """
    unknown = [each.key for each in records if each.patient is None]
    if len(unknown) == len(records):
        return ()
    if unknown:
        known = Counter(each.patient is not None for each in records)[True]
        raise ConfigurationError(
            f"The patient must be known of every sample or of none, got {known} known, {len(unknown)} not: "
            f"{', '.join(unknown[:3])}. Put sub-XXX into their paths, or a column patient into {_TABLE}."
        )
    return tuple(each.patient or "" for each in records)
