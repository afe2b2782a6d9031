"""Which line of a table names which image."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.files import READERS
from torchgenaug.recipes.data.listing import some


@dataclass(frozen=True)
class Lines:
    """The line of each image.

    Args:
        numbers: of the lines, in the order of the images; None where no line names an image.
        absent: names in the table of files that are not there.
        by_folder: whether lines name folders of images, as those of patients.
        remark: in what respect names differ from those of the images; "": in none.
    """

    numbers: tuple[int | None, ...]
    absent: tuple[str, ...]
    by_folder: bool
    remark: str = ""


def names_all(path: Path, keys: Sequence[str], files: Sequence[str], roots: Sequence[str]) -> bool:
    """Whether lines name all images, see `match_lines`."""
    try:
        return None not in match_lines(path, keys, files, roots).numbers
    except ConfigurationError:
        return False  # one line for several images


def match_lines(path: Path, keys: Sequence[str], files: Sequence[str], roots: Sequence[str]) -> Lines:
    """The line that names each image: by path, by the end of a path, without ending; or by one of its folders.

    Where that finds none: without the endings that lines have, or as numbers (7 is "0007.png").

    Args:
        path: of the table.
        keys: paths of the images below the folder.
        files: what each line names.
        roots: beginnings of paths that the table may leave out.

    Raises:
        ConfigurationError: one line for several images of the same name.
    """
    known: dict[str, set[int]] = defaultdict(set)
    first: dict[str, int] = {}
    for number, name in enumerate(files):
        first.setdefault(name, number)
    for name, number in first.items():
        parts = PurePosixPath(unicodedata.normalize("NFC", name).casefold()).parts
        for place in range(len(parts)):
            known["/".join(parts[place:])].add(number)
    numbers = [_line_of(key, known, first, roots) for key in keys]
    by_folder = all(number is None for number in numbers)
    if by_folder:
        whole = {name.casefold(): number for name, number in first.items()}
        numbers = [
            next((whole[folder] for folder in reversed(key.casefold().split("/")[:-1]) if folder in whole), None)
            for key in keys
        ]
    remark = ""
    for change, words in ((_without_ending, "names files with other endings."), (_as_number, "numbers the files.")):
        if any(number is not None for number in numbers) or not keys:
            break
        changed = {change(name): number for name, number in first.items()}
        if len(changed) < len(first):
            continue  # "7" and "07" are two names
        numbers = [changed.get(change(key.rpartition("/")[2])) for key in keys]
        by_folder, remark = False, words
    used = Counter(number for number in numbers if number is not None)
    twice = next((number for number, count in used.items() if count > 1), None)
    if twice is not None and not by_folder:
        same = [key for key, number in zip(keys, numbers, strict=True) if number == twice]
        raise ConfigurationError(
            f"{path} must name each image, got {files[twice]!r} for {some(same)}. Write paths below {path.parent}."
        )
    return Lines(tuple(numbers), tuple(name for name, number in first.items() if number not in used), by_folder,
                 remark if used else "")  # fmt: skip


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


def _without_ending(name: str) -> str:
    name = unicodedata.normalize("NFC", name).casefold().rpartition("/")[2]
    ending = next((each for each in READERS if name.endswith(each)), "")
    return name.removesuffix(ending)


def _as_number(name: str) -> str:
    """A whole number without leading zeros, "" of other names."""
    stem = _without_ending(name).removesuffix(".0")
    return str(int(stem)) if stem.isdecimal() else ""


__all__ = ["Lines", "match_lines", "names_all"]
