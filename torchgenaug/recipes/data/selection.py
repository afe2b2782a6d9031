"""`Selection`: what a user states about a folder, in place of what its names suggest; globs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torchgenaug.errors import ConfigurationError

Folders: TypeAlias = Literal["classes", "patients", "ignore"]
NO_MASKS = NO_TABLE = "none"


@dataclass(frozen=True)
class Selection:
    """Which files of a folder are what.

    Args:
        images: glob of the image files, below the folder: ``"scans/*.png"``; ``**`` stands for any folders, a pattern
            without a slash for names at any depth, and ``a|b`` for what either of two patterns matches. None: as names
            suggest.
        masks: the same of the masks, of which several for an image are united where ``|`` is in the pattern;
            ``"none"``: there are none.
        folders: what subfolders are: ``"classes"``, ``"patients"`` or nothing (``"ignore"``). None: as names suggest.
        table: the table of classes, a path below the folder; ``FILE:COLUMN`` names its column of classes, and
            ``FILE:COLUMN=VALUE`` means two classes, files with that value and without; ``"none"``: no table. None:
            ``labels.csv``, or the only table that names the images and their classes.
        volumes: whether the slices of a DICOM series are one volume, and arrays of three axes volumes.
    """

    images: str | None = None
    masks: str | None = None
    folders: Folders | None = None
    table: str | None = None
    volumes: bool = False

    def __post_init__(self) -> None:
        if self.folders not in (None, "classes", "patients", "ignore"):
            raise ConfigurationError(
                f"`folders` must be 'classes', 'patients' or 'ignore', got {self.folders!r}. Leave it out to have it "
                "recognised."
            )


@dataclass(frozen=True)
class Glob:
    """A compiled glob, without regard to capitals."""

    pattern: str

    def captures(self, key: str) -> tuple[str, ...] | None:
        """What each ``*`` stands for in `key`; None where it does not match."""
        for pattern in self.alternatives:
            found = re.fullmatch(_regex(pattern), key if "/" in pattern else key.rsplit("/", 1)[-1], re.IGNORECASE)
            if found is not None:
                return tuple((part or "").casefold() for part in found.groups())
        return None

    @property
    def alternatives(self) -> list[str]:
        """The globs of which one must match; there are several where ``|`` parts them."""
        return [pattern.strip().removeprefix("./") for pattern in self.pattern.split("|")]

    def keep(self, keys: Iterable[str]) -> set[str]:
        """The keys that match."""
        return {key for key in keys if self.captures(key) is not None}


def _regex(pattern: str) -> str:
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    known = {"**/": r"((?:[^/]+/)*)", "**": r"(.*)", "*": r"([^/]*)", "?": r"([^/])", "": ""}
    return "".join(
        known.get(piece)
        if piece in known  # type: ignore[misc]
        else piece.replace("[!", "[^")
        if piece.startswith("[") and piece.endswith("]")
        else re.escape(piece)
        for piece in pieces
    )
