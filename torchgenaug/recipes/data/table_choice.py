"""`find_labels`: which of the tables in a folder states the classes of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.listing import OTHER_KINDS, Listing
from torchgenaug.recipes.data.pairing import Named
from torchgenaug.recipes.data.selection import NO_TABLE
from torchgenaug.recipes.data.table_lines import match_lines, names_all
from torchgenaug.recipes.data.table_text import Table, read_table
from torchgenaug.recipes.data.tables import TABLE_NAMES, Columns, Labels, Wanted, read_labels

_ENDINGS = (".csv", ".tsv")
_MOST_TABLES = 20


@dataclass(frozen=True)
class FoundLabels:
    """The table that is used, and what a user should know of the others.

    Args:
        labels: what it states; None: no table is used.
        name: of the table.
        is_certain: whether the user named the table, or it is ``labels.csv``.
        remarks: on tables that were not used.
    """

    labels: Labels | None = None
    name: str = ""
    is_certain: bool = True
    remarks: tuple[str, ...] = ()


def find_labels(listing: Listing, images: Sequence[Named], chosen: str | None) -> FoundLabels:
    """The classes that a table states: the one that the user chose, ``labels.csv``, or the only one that fits.

    Args:
        listing: the folder; the table that is used is no longer counted as not used.
        images: which it must name.
        chosen: ``FILE``, ``FILE:COLUMN``, ``FILE:COLUMN=VALUE``, ``"none"``, or None.

    Raises:
        ConfigurationError: a table that does not fit; several that could be meant.
    """
    if chosen == NO_TABLE:
        return FoundLabels()
    keys = [image.key for image in images]
    roots = ("", *sorted({f"{key.split('/')[0]}/" for key in keys if "/" in key}))
    if chosen is not None:
        path, wanted = _parsed(listing, chosen)
        return _used(listing, path, read_labels(path, keys, roots, wanted))
    usual = next((listing.folder / name for name in TABLE_NAMES if (listing.folder / name).is_file()), None)
    if usual is not None:
        return _used(listing, usual, read_labels(usual, keys, roots))
    names = tables_of(listing)
    fitting, remarks = [], []
    for name in names[:_MOST_TABLES]:
        reason = _misfit(listing.folder / name, keys, roots)
        if reason:
            remarks.append(f"The table {name} was not used: {reason}.")
        else:
            fitting.append(name)
    if len(fitting) > 1:
        options = ", ".join(f"--table '{name}'" for name in fitting)
        raise ConfigurationError(
            f"One table must state the classes of the images in {listing.folder}, got {len(fitting)} that could. "
            f"Choose: {options}; or none: --table none."
        )
    if not fitting:
        return FoundLabels(remarks=tuple(remarks))
    labels = read_labels(listing.folder / fitting[0], keys, roots, Wanted(all_there=False))
    found = _used(listing, listing.folder / fitting[0], labels)
    return FoundLabels(found.labels, found.name, is_certain=False, remarks=tuple(remarks))


def tables_of(listing: Listing) -> list[str]:
    """Paths of the tables below a folder that are not used so far."""
    return [name for name in listing.others.get(OTHER_KINDS, []) if name.lower().endswith(_ENDINGS)]


def _used(listing: Listing, path: Path, labels: Labels) -> FoundLabels:
    others = listing.others.get(OTHER_KINDS, [])
    if path.is_relative_to(listing.folder) and listing.key(path) in others:
        others.remove(listing.key(path))
    return FoundLabels(labels, path.name)


def _parsed(listing: Listing, chosen: str) -> tuple[Path, Wanted]:
    """The table, its column and the value that a user named."""
    for end in [len(chosen), *(k for k in range(len(chosen) - 1, 0, -1) if chosen[k] == ":")]:
        name = chosen[:end]
        for path in (listing.folder / name, Path(name).expanduser()):
            if path.is_file():
                column, _, value = chosen[end + 1 :].partition("=")
                return path, Wanted(column or None, value or None, all_there=False)
    tables = tables_of(listing)
    raise ConfigurationError(
        f"`table` must be a table below {listing.folder} (FILE, FILE:COLUMN or FILE:COLUMN=VALUE), got {chosen!r}. "
        f"There {'are ' + ', '.join(tables[:8]) if tables else 'is no .csv and no .tsv'}. For example --table "
        f"'{(tables or ['labels.csv'])[0]}'."
    )


def _misfit(path: Path, keys: Sequence[str], roots: Sequence[str]) -> str:
    """Why a table does not state the classes of all images; "" where it does, or means to."""
    try:
        table = read_table(path)
        columns = Columns(table, Wanted(), lambda cells: names_all(path, keys, cells, roots))
    except ConfigurationError as error:
        if "which state different things" in str(error):
            raise
        return _no_columns(path, str(error))
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    stated = [table.cell(row, columns.file_at).replace("\\", "/") or "?" for row in table.rows]
    try:
        lines = match_lines(path, keys, stated, roots)
    except ConfigurationError:
        return "its files are not those of the images"
    named = sum(number is not None for number in lines.numbers)
    if named == len(keys):
        return ""
    return f"it names {named or 'none'} of the {len(keys)} images"


def _no_columns(path: Path, error: str) -> str:
    try:
        table: Table = read_table(path)
    except (ConfigurationError, OSError, ValueError):
        return "it holds no lines"
    if "must have the columns" not in error:
        return error.rstrip(".")
    shown = ", ".join(table.header[:12])
    return f"no column is known as that of classes or files ({shown}); name it: --table '{path.name}:COLUMN'"


__all__ = ["FoundLabels", "find_labels", "tables_of"]
