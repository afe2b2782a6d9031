"""`read_table`: a text file of columns as people and their programs write it."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchgenaug.errors import ConfigurationError

FILE_COLUMNS = (
    "file", "filename", "file_name", "filepath", "file_path", "image", "image_name", "image_id", "image_file",
    "image_path", "image_index", "imageid", "img", "img_name", "img_id", "img_path", "isic_id", "dicom_id",
    "sopinstanceuid", "sop_instance_uid", "slice", "path", "name", "id", "id_code", "case", "case_id", "scan",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "class", "class_name", "class_id", "classes", "target", "dx", "diagnosis", "diagnostic",
    "category", "y", "grade", "level", "pathology", "finding", "finding_labels", "disease", "label_id", "label_name",
    "benign_malignant",
)  # fmt: skip
PATIENT_COLUMNS = (
    "patient", "patient_id", "patientid", "subject", "subject_id", "subjectid", "participant", "participant_id",
    "person_id",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table as it was read.

    Args:
        path: of the file.
        header: names of the columns.
        rows: the other lines, cell by cell.
        delimiter: what parts the cells.
        encoding: of the file.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    delimiter: str
    encoding: str

    def cell(self, row: Sequence[str], place: int) -> str:
        """A cell; "" where the line is too short."""
        return row[place] if place < len(row) else ""


def read_table(path: Path) -> Table:
    """A table in any of the common encodings and with any of the common signs between cells.

    Raises:
        ConfigurationError: no line but the first one.
    """
    text, encoding = _decoded(path)
    text = unicodedata.normalize("NFC", text.lstrip("\ufeff"))
    first, _, rest = text.partition("\n")
    stated = first.strip().strip('"')
    delimiters: Sequence[str] = ",;\t|"
    if stated.lower().startswith("sep=") and len(stated) == 5:  # what Excel writes for itself
        text, delimiters = rest, stated[4]
    while stated.startswith("#") and "\n" in text:  # a comment
        text = text.partition("\n")[2]
        stated = text.partition("\n")[0].strip()
    quote = "'" if stated.startswith("'") else '"'
    if not any(sign in stated for sign in delimiters):
        delimiters = f"{delimiters} "
    best: tuple[int, list[str], list[list[str]], str] = (-1, [], [], ",")
    for delimiter in delimiters:
        content = io.StringIO(text, newline="")
        cells = csv.reader(content, delimiter=delimiter, quotechar=quote, skipinitialspace=True)
        lines = [line for line in ([cell.strip() for cell in row] for row in cells) if any(line)]
        if lines:
            known = [normal(name) for name in lines[0]]
            kinds = (FILE_COLUMNS, LABEL_COLUMNS, PATIENT_COLUMNS)
            score = 100 * sum(any(name in names for name in known) for names in kinds) + len(known)
            if score > best[0]:
                best = (score, lines[0], lines[1:], delimiter)
    _, header, rows, delimiter = best
    if not rows:
        raise ConfigurationError(
            f"{path} must have the columns file and label and a line for each image, got "
            f"{'only ' + ', '.join(header) if header else 'nothing'}. Write file,label in its first line."
        )
    return Table(path, header, rows, delimiter, encoding)


def normal(name: str) -> str:
    """A column's name without capitals and signs: "Image Index" is "image_index"."""
    return "_".join(name.casefold().replace("-", " ").replace(".", " ").replace("_", " ").split())


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


__all__ = ["FILE_COLUMNS", "LABEL_COLUMNS", "PATIENT_COLUMNS", "Table", "normal", "read_table"]
