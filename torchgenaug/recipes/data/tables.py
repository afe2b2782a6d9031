"""`labels.csv` as people and their programs write it: which class and which patient each file has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.class_names import class_names
from torchgenaug.recipes.data.listing import some
from torchgenaug.recipes.data.table_lines import match_lines, names_all
from torchgenaug.recipes.data.table_text import (
    FILE_COLUMNS,
    LABEL_COLUMNS,
    PATIENT_COLUMNS,
    Table,
    normal,
    read_table,
)

TABLE_NAMES = ("labels.csv", "labels.tsv", "labels.txt")
_UNKNOWN = {"nan", "na", "n/a", "null", "unlabelled", "unlabeled"}
_JOINT = "|"  # between the labels of an image that has several


@dataclass(frozen=True)
class Labels:
    """What a table states.

    Args:
        names: of the classes.
        labels: class of each image, in the order of the keys; NaN where it is not known.
        patients: of each image; empty where the table has no such column.
        remarks: how the table was read.
    """

    names: tuple[str, ...]
    labels: tuple[float, ...]
    patients: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What a user states about a table.

    Args:
        column: name of the column of classes; None: as names suggest.
        value: two classes: files with this value, or with it among several, and the others.
        all_there: whether each file that it names must be there.
    """

    column: str | None = None
    value: str | None = None
    all_there: bool = True


def read_labels(path: Path, keys: Sequence[str], roots: Sequence[str] = ("",), wanted: Wanted | None = None) -> Labels:
    """The class of each image of `keys`, paths below the folder; the table may leave out `roots` in front of them.

    Raises:
        ConfigurationError: no such columns, cells without a value, files that are not there or not named, two labels
            of one file; the table and the line are named.
    """
    wanted = wanted or Wanted()
    table = read_table(path)
    columns = Columns(table, wanted, lambda cells: names_all(path, keys, cells, roots))
    files = columns.file_names()
    lines = match_lines(path, keys, files, roots)
    missing = [key for key, number in zip(keys, lines.numbers, strict=True) if number is None]
    if missing:
        raise ConfigurationError(
            f"{path} must name every image, got none for {missing[0]} (and {len(missing) - 1} others). Add the line "
            f"{missing[0]},<label>; or leave the table out: --table none."
        )
    if lines.absent and wanted.all_there:
        raise ConfigurationError(
            f"{path} must name files that are there, got {len(lines.absent)} that are not: {some(lines.absent)}. Write "
            f"paths below {path.parent}; or, if they were left out on purpose: --table {path.name}."
        )
    numbers = [number for number in lines.numbers if number is not None]
    columns.check_one_label([table.rows[number] for number in numbers])
    labels = [columns.label(table.rows[number]) for number in numbers]
    known = [label for label in labels if label]
    if not known:
        raise ConfigurationError(
            f"{path} must have a label for some file, got none in the column {columns.label_name}. Fill it in, or "
            "leave the table out: --table none."
        )
    names = class_names(path, known)
    remarks = _remarks(table, columns, files)
    if lines.remark:
        remarks.append(f"{path.name} {lines.remark}")
    if lines.absent:
        remarks.append(f"{path.name} names {len(lines.absent)} files that are not here: {some(lines.absent)}.")
    if lines.by_folder:
        remarks.append(f"{path.name} names folders of images: all images of a folder are of one class.")
    patients = tuple(columns.patient(table.rows[number]) for number in numbers)
    counts = [str(number) for number in range(len(names))]
    places = tuple(names.index(each) if each else math.nan for each in labels)
    return Labels(() if names == counts else tuple(names), places,
                  patients if columns.patient_at is not None else (), tuple(remarks))  # fmt: skip


class Columns:
    """Where the files, the labels and the patients of a table stand.

    Args:
        table: the table.
        wanted: what the user states about it.
        names_images: whether cells of a column name all images: finds a column of files by what it holds.

    Raises:
        ConfigurationError: no such columns, one of them twice, two columns of labels that disagree.
    """

    def __init__(self, table: Table, wanted: Wanted, names_images: Callable[[Sequence[str]], bool]) -> None:
        self.table, self.path, self.header, self.wanted = table, table.path, table.header, wanted
        names = [normal(name) for name in table.header]
        known = (*FILE_COLUMNS, *LABEL_COLUMNS, *PATIENT_COLUMNS)
        twice = {name for name in names if name and names.count(name) > 1 and name in known}
        if twice:
            raise ConfigurationError(
                f"{table.path} must have each column once, got {some(sorted(twice))} twice. Remove one."
            )
        labels = self._labels(names)
        patients = [names.index(name) for name in PATIENT_COLUMNS if name in names]
        self.patient_at = next((place for place in patients if place not in labels), None)
        files = [names.index(name) for name in FILE_COLUMNS if name in names and names.index(name) not in labels]
        by_patient = [] if self.patient_at is None else [self.patient_at]  # a line for each, whose files lie in one
        files = self._files(files, {*labels, *by_patient}, names_images) or by_patient
        if files and not labels:
            labels = self._one_hot([k for k in range(len(names)) if k not in {files[0], self.patient_at}])
        if not files or not labels:
            raise ConfigurationError(
                f"{table.path} must have the columns file and label (and perhaps patient), got "
                f"{', '.join(table.header) or 'none'}. Write them in its first line; or name the column of classes: "
                f"--table '{table.path.name}:{table.header[-1]}'."
            )
        self.file_at = files[0]
        self.label_at = self._one_label(labels, names)

    @property
    def label_name(self) -> str:
        """The label's column, or the first and last of several."""
        names = [self.header[place] for place in self.label_at]
        return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"

    def label(self, row: Sequence[str]) -> str:
        """The class that a line states; empty where it states that the class is not known.

        Raises:
            ConfigurationError: an empty cell, which may as well be a slip.
        """
        if len(self.label_at) > 1:
            return next(self.header[place] for place in self.label_at if float(row[place]) == 1)
        value = self.table.cell(row, self.label_at[0])
        if self.wanted.value is not None:
            has = _plain(self.wanted.value) in {_plain(part.strip()) for part in value.split(_JOINT)}
            # "Pneumonia=1" names a class where "1" does not.
            name = (
                self.wanted.value
                if not _plain(self.wanted.value).isdecimal()
                else f"{self.label_name}={self.wanted.value}"
            )
            return name if has else f"no {name}"
        if not value:
            raise ConfigurationError(
                f"{self.path} must have a label for every file, got nothing for {row[self.file_at]}. Fill it in, write "
                "NA where the class is not known, or leave the table out: --table none."
            )
        return "" if value.casefold() in _UNKNOWN else _plain(value)

    def patient(self, row: Sequence[str]) -> str:
        """The patient that a line states."""
        return self.table.cell(row, self.patient_at or 0)

    def check_one_label(self, rows: Sequence[Sequence[str]]) -> None:
        """Refuses lines with several labels, unless one of them was chosen.

        Raises:
            ConfigurationError: how many, the labels, and how to choose.
        """
        if len(self.label_at) > 1 or self.wanted.value is not None:
            return
        cells = [self.table.cell(row, self.label_at[0]) for row in rows]
        several = [cell for cell in cells if _JOINT in cell]
        if not several:
            return
        parts = sorted({part.strip() for cell in cells for part in cell.split(_JOINT)})
        raise ConfigurationError(
            f"{self.path} must give one label to a file, got several for {len(several)} of {len(cells)} "
            f"({several[0]}). Choose one of {len(parts)}, there or not: --table "
            f"'{self.path.name}:{self.label_name}={several[0].split(_JOINT)[0]}'; or no classes: --table none. All: "
            f"{', '.join(parts[:24])}."
        )

    def file_names(self) -> list[str]:
        """What each line names.

        Raises:
            ConfigurationError: a line without a name; two labels of one file.
        """
        files: list[str] = []
        stated: dict[str, str] = {}
        for row in self.table.rows:
            name = self.table.cell(row, self.file_at)
            if not name:
                raise ConfigurationError(
                    f"{self.path} must name a file in every line, got {', '.join(row)}. Complete it."
                )
            name, label = name.replace("\\", "/"), self.label(row)
            if stated.setdefault(name, label) != label:
                raise ConfigurationError(
                    f"{self.path} must give one label to a file, got {stated[name]!r} and {label!r} for {name}. Remove "
                    "one line."
                )
            files.append(name)
        return files

    def _files(self, known: list[int], others: set[int], names_images: Callable[[Sequence[str]], bool]) -> list[int]:
        """Columns of files: by their names, or, where these hold something else, by what they hold."""
        places = [place for place in range(len(self.header)) if place not in others and place not in known]
        for place in (*known, *places):
            if names_images([self.table.cell(row, place).replace("\\", "/") or "?" for row in self.table.rows]):
                return [place, *(each for each in known if each != place)]
        return known

    def _labels(self, names: Sequence[str]) -> list[int]:
        column = self.wanted.column
        if column is None:
            coordinates = {"y"} if "x" in names else set[str]()
            return [names.index(name) for name in LABEL_COLUMNS if name in names and name not in coordinates]
        if normal(column) not in names:
            raise ConfigurationError(
                f"`table` must name a column of {self.path}, got {column!r}; there are {', '.join(self.header)}. Write "
                f"--table '{self.path.name}:{self.header[-1]}'."
            )
        return [names.index(normal(column))]

    def _one_label(self, places: list[int], names: Sequence[str]) -> list[int]:
        one_hot = len(places) > 1 and not any(names[place] in LABEL_COLUMNS for place in places)
        if len(places) == 1 or one_hot or names[places[0]] == "label":
            return places if one_hot else places[:1]
        firsts = [[self.table.cell(row, place) for row in self.table.rows] for place in places]
        if len({tuple(column.index(value) for value in column) for column in firsts}) == 1:
            return places[:1]
        options = " or ".join(f"--table '{self.path.name}:{self.header[place]}'" for place in places)
        raise ConfigurationError(
            f"{self.path} must have one column of labels, got {', '.join(self.header[place] for place in places)}, "
            f"which state different things. Choose: {options}."
        )

    def _one_hot(self, places: list[int]) -> list[int]:
        def is_one_hot(row: Sequence[str]) -> bool:
            try:
                values = [float(row[place]) for place in places]
            except (ValueError, IndexError):
                return False
            return set(values) == {0.0, 1.0} and sum(values) == 1

        return places if len(places) > 1 and all(map(is_one_hot, self.table.rows)) else []


def _plain(value: str) -> str:
    """Whole numbers as such: "1.0" is "1"."""
    try:
        return str(int(float(value))) if float(value).is_integer() and float(value) >= 0 else value
    except (ValueError, OverflowError):
        return value


def _remarks(table: Table, columns: Columns, files: Sequence[str]) -> list[str]:
    name, used = table.path.name, {columns.file_at, columns.patient_at, *columns.label_at}
    unused = [column for place, column in enumerate(table.header) if place not in used and column]
    remarks = [
        f"Classes are those of the column {columns.label_name} of {name}, files those of "
        f"{table.header[columns.file_at]}."
    ]
    if table.encoding not in ("utf-8", "utf-8-sig"):
        remarks.append(f"{name} is no UTF-8: it was read as {table.encoding}.")
    if table.delimiter != ",":
        remarks.append(f"{name} is separated by {table.delimiter!r}.")
    if unused:
        remarks.append(f"Columns of {name} that were not used: {', '.join(unused)}.")
    if len(set(files)) < len(files):
        remarks.append(f"{name} has {len(files) - len(set(files))} repeated lines.")
    return remarks


__all__ = ["TABLE_NAMES", "Columns", "Labels", "Wanted", "read_labels"]
