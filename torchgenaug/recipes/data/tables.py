"""`labels.csv` as people and their programs write it: which class and which patient each file has."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.files import READERS
from torchgenaug.recipes.data.listing import some

TABLE_NAMES = ("labels.csv", "labels.tsv", "labels.txt")
_FILE = ("file", "filename", "file_name", "filepath", "file_path", "image", "image_name", "image_id", "image_file",
         "image_path", "image_index", "imageid", "img", "img_name", "img_id", "img_path", "isic_id", "path", "name",
         "id", "id_code", "case", "case_id", "scan")  # fmt: skip
_LABEL = ("label", "labels", "class", "class_name", "class_id", "classes", "target", "dx", "diagnosis", "category", "y",
          "grade", "level", "pathology", "finding", "finding_labels", "disease", "label_id", "label_name",
          "benign_malignant")  # fmt: skip
_PATIENT = ("patient", "patient_id", "patientid", "subject", "subject_id", "subjectid", "participant",
            "participant_id", "person_id")  # fmt: skip
_MISSING = {"", "nan", "na", "n/a", "null"}
_MAX_CLASSES = 64


@dataclass(frozen=True)
class Labels:
    """What a table states.

    Args:
        names: of the classes.
        labels: class of each image, in the order of the keys.
        patients: of each image; empty where the table has no such column.
        remarks: how the table was read.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    patients: tuple[str, ...]
    remarks: tuple[str, ...]


def read_labels(path: Path, keys: Sequence[str], roots: Sequence[str] = ("",)) -> Labels:
    """The class of each image of `keys`, paths below the folder; the table may leave out `roots` in front of them.

    Raises:
        ConfigurationError: no such columns, cells without a value, files that are not there or not named, two labels
            of one file; the table and the line are named.
    """
    text, encoding = _decoded(path)
    header, rows, delimiter = _parsed(path, text)
    columns = _Columns(path, header, rows)
    files = _file_names(path, columns, rows)
    numbers = _matched(path, keys, files, roots)
    labels = [columns.label(rows[number]) for number in numbers]
    names = _class_names(path, labels)
    patients = tuple(columns.patient(rows[number]) for number in numbers) if columns.patient_at is not None else ()
    used = {columns.file_at, columns.patient_at, *columns.label_at}
    unused = [name for place, name in enumerate(header) if place not in used and name]
    remarks = [f"Classes are those of the column {columns.label_name} of {path.name}, files those of "
               f"{header[columns.file_at]}."]  # fmt: skip
    if encoding not in ("utf-8", "utf-8-sig"):
        remarks.append(f"{path.name} is no UTF-8: it was read as {encoding}.")
    if delimiter != ",":
        remarks.append(f"{path.name} is separated by {delimiter!r}.")
    if unused:
        remarks.append(f"Columns of {path.name} that were not used: {', '.join(unused)}.")
    if len(set(files)) < len(files):
        remarks.append(f"{path.name} has {len(files) - len(set(files))} repeated lines.")
    counts = [str(number) for number in range(len(names))]
    return Labels(() if names == counts else tuple(names), tuple(names.index(each) for each in labels), patients,
                  tuple(remarks))  # fmt: skip


def _decoded(path: Path) -> tuple[str, str]:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16"), "UTF-16"
    if content[:2000].count(b"\0") > len(content[:2000]) // 4:
        little = content[1:2] == b"\0"
        return content.decode("utf-16-le" if little else "utf-16-be"), "UTF-16"
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1"), "latin-1"


def _parsed(path: Path, text: str) -> tuple[list[str], list[list[str]], str]:
    """The header, the other lines, and what parts the cells."""
    text = unicodedata.normalize("NFC", text.lstrip("\ufeff"))
    first, _, rest = text.partition("\n")
    stated = first.strip().strip('"')
    delimiters: Sequence[str] = ",;\t|"
    if stated.lower().startswith("sep=") and len(stated) == 5:  # what Excel writes for itself
        text, delimiters = rest, stated[4]
    best: tuple[int, list[str], list[list[str]], str] = (-1, [], [], ",")
    for delimiter in delimiters:
        lines = [[cell.strip() for cell in line] for line in
                 csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)]  # fmt: skip
        lines = [line for line in lines if any(line)]
        if lines:
            header = lines[0]
            known = [_normal(name) for name in header]
            score = 100 * sum(any(name in names for name in known) for names in (_FILE, _LABEL, _PATIENT)) + len(header)
            if score > best[0]:
                best = (score, header, lines[1:], delimiter)
    _, header, rows, delimiter = best
    if not rows:
        raise ConfigurationError(
            f"{path} must have the columns file and label and a line for each image, got "
            f"{'only ' + ', '.join(header) if header else 'nothing'}. Write file,label in its first line."
        )
    return header, rows, delimiter


def _normal(name: str) -> str:
    return "_".join(name.casefold().replace("-", " ").replace(".", " ").replace("_", " ").split())


class _Columns:
    """Where the files, the labels and the patients stand."""

    def __init__(self, path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.path, self.header = path, header
        normal = [_normal(name) for name in header]
        twice = {name for name in normal if name and normal.count(name) > 1 and name in (*_FILE, *_LABEL, *_PATIENT)}
        if twice:
            raise ConfigurationError(f"{path} must have each column once, got {some(sorted(twice))} twice. Remove one.")
        files = [normal.index(name) for name in _FILE if name in normal]
        labels = [normal.index(name) for name in _LABEL if name in normal]
        patients = [normal.index(name) for name in _PATIENT if name in normal]
        self.patient_at = patients[0] if patients else None
        files = [place for place in files if place not in labels]
        if files and not labels:
            labels = self._one_hot([k for k in range(len(header)) if k not in {files[0], self.patient_at}], rows)
        if not files or not labels:
            raise ConfigurationError(
                f"{path} must have the columns file and label (and perhaps patient), got "
                f"{', '.join(header) or 'none'}. Write them in its first line."
            )
        self.file_at = files[0]
        self.label_at = self._one_label(labels, rows, normal)

    @property
    def label_name(self) -> str:
        """The label's column, or the first and last of several."""
        names = [self.header[place] for place in self.label_at]
        return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"

    def label(self, row: Sequence[str]) -> str:
        """The class that a line states."""
        if len(self.label_at) > 1:
            return next(self.header[place] for place in self.label_at if float(row[place]) == 1)
        value = row[self.label_at[0]] if self.label_at[0] < len(row) else ""
        if value.casefold() in _MISSING:
            raise ConfigurationError(
                f"{self.path} must have a label for every file, got {value or 'nothing'} for {row[self.file_at]}. Fill "
                "it in, or remove the line and the file."
            )
        try:
            return str(int(float(value))) if float(value).is_integer() and float(value) >= 0 else value
        except (ValueError, OverflowError):
            return value

    def patient(self, row: Sequence[str]) -> str:
        """The patient that a line states."""
        place = self.patient_at or 0
        return row[place] if place < len(row) else ""

    def _one_label(self, places: list[int], rows: Sequence[Sequence[str]], normal: Sequence[str]) -> list[int]:
        one_hot = len(places) > 1 and not any(normal[place] in _LABEL for place in places)
        if len(places) == 1 or one_hot or normal[places[0]] == "label":
            return places if one_hot else places[:1]
        firsts = [[row[place] if place < len(row) else "" for row in rows] for place in places]
        groupings = {tuple(column.index(value) for value in column) for column in firsts}
        if len(groupings) == 1:
            return places[:1]
        raise ConfigurationError(
            f"{self.path} must have one column of labels, got {', '.join(self.header[place] for place in places)}, "
            "which state different things. Name the one that is meant label."
        )

    def _one_hot(self, places: list[int], rows: Sequence[Sequence[str]]) -> list[int]:
        def is_one_hot(row: Sequence[str]) -> bool:
            try:
                values = [float(row[place]) for place in places]
            except (ValueError, IndexError):
                return False
            return set(values) == {0.0, 1.0} and sum(values) == 1

        return places if len(places) > 1 and all(map(is_one_hot, rows)) else []


def _file_names(path: Path, columns: _Columns, rows: Sequence[Sequence[str]]) -> list[str]:
    files: list[str] = []
    stated: dict[str, str] = {}
    for row in rows:
        name = row[columns.file_at] if columns.file_at < len(row) else ""
        if not name:
            raise ConfigurationError(f"{path} must name a file in every line, got {', '.join(row)}. Complete it.")
        name = name.replace("\\", "/")
        label = columns.label(row)
        if stated.setdefault(name, label) != label:
            raise ConfigurationError(
                f"{path} must give one label to a file, got {stated[name]!r} and {label!r} for {name}. Remove one line."
            )
        files.append(name)
    return files


def _matched(path: Path, keys: Sequence[str], files: Sequence[str], roots: Sequence[str]) -> list[int]:
    """For each image the line that names it: by path, by the end of a path, or without ending."""
    known: dict[str, set[int]] = defaultdict(set)
    first: dict[str, int] = {}
    for number, name in enumerate(files):
        first.setdefault(name, number)
    for name, number in first.items():
        parts = PurePosixPath(unicodedata.normalize("NFC", name).casefold()).parts
        for place in range(len(parts)):
            known["/".join(parts[place:])].add(number)
    numbers: list[int] = []
    missing: list[str] = []
    for key in keys:
        line = _line_of(key, known, first, roots)
        if line is None:
            missing.append(key)
        else:
            numbers.append(line)
    if missing:
        raise ConfigurationError(
            f"{path} must name every image, got none for {missing[0]} (and {len(missing) - 1} others). Add the line "
            f"{missing[0]},<label>"
        )
    used = Counter(numbers)
    unused = [name for name, number in first.items() if number not in used]
    if unused:
        raise ConfigurationError(
            f"{path} must name files that are there, got {len(unused)} that are not: {some(unused)}. Write paths below "
            f"{path.parent}."
        )
    if len(used) < len(numbers):
        twice = next(number for number, count in used.items() if count > 1)
        same = [key for key, number in zip(keys, numbers, strict=True) if number == twice]
        raise ConfigurationError(
            f"{path} must name each image, got {files[twice]!r} for {some(same)}. Write paths below {path.parent}."
        )
    return numbers


def _line_of(key: str, known: Mapping[str, set[int]], first: Mapping[str, int], roots: Sequence[str]) -> int | None:
    key = unicodedata.normalize("NFC", key)
    stems = [key[: -len(ending)] for ending in READERS if key.lower().endswith(ending)][:1]
    for name in (key, *stems):
        for root in roots:
            if name.removeprefix(root) in first:
                return first[name.removeprefix(root)]
        parts = name.casefold().split("/")
        for place in range(len(parts)):
            found = known.get("/".join(parts[place:]), set())
            if len(found) == 1:
                return next(iter(found))
    return None


def _class_names(path: Path, labels: Sequence[str]) -> list[str]:
    names = sorted(set(labels), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    by_case: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_case[name.casefold()].append(name)
    alike = next((group for group in by_case.values() if len(group) > 1), None)
    if alike:
        raise ConfigurationError(
            f"{path} must write a class in one way, got {' and '.join(map(repr, alike))}. Write them alike, or apart."
        )
    if len(names) < 2:
        raise ConfigurationError(f"{path} must name two classes at least, got only {names[0]!r}. Remove the table.")
    if len(names) > _MAX_CLASSES:
        raise ConfigurationError(
            f"{path} must name at most {_MAX_CLASSES} classes, got {len(names)}: {some(names)}. A number that is "
            "measured is no class: group its values, or remove the table."
        )
    return names
