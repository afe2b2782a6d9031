"""`list_folder`: every entry below a folder, each either an image file or counted under why it is none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchgenaug.recipes.data.files import stem_of, suffix_of
from torchgenaug.recipes.data.readers.dicom import is_dicom

_SYSTEM = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "#recycle", "lost+found",
           "system volume information", "__pycache__"}  # fmt: skip
_DATA_FILE = re.compile(r"^\s*(?:ElementDataFile|data ?file)\s*[:=]\s*(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_NO_DICOM = {".csv", ".tsv", ".txt", ".json", ".xml", ".md", ".pdf", ".xlsx", ".xls", ".yaml", ".yml", ".html", ".zip"}
_SHARD = re.compile(r"shard-\d+\.[0-9a-f]+\.h5")
_NAMED = 3
OTHER_KINDS = "files of other kinds"


@dataclass
class Listing:
    """What lies below a folder.

    Attributes:
        folder: absolute; links in its path are kept.
        files: that a reader exists for, sorted by path.
        others: reason → the paths below `folder` of what is not used for it.
    """

    folder: Path
    files: list[Path] = field(default_factory=list)
    others: dict[str, list[str]] = field(default_factory=dict)

    def key(self, path: Path) -> str:
        """The path below the folder, with slashes."""
        return path.relative_to(self.folder).as_posix()

    def put_aside(self, path: Path, reason: str) -> None:
        """Counts an entry that is not used."""
        self.others.setdefault(reason, []).append(self.key(path))

    def unused(self) -> tuple[str, ...]:
        """One sentence over all that is not used; none where everything is."""
        parts = [f"{reason}: {len(keys)} ({some(keys)})" for reason, keys in self.others.items() if keys]
        return (f"Not used: {'; '.join(parts)}.",) if parts else ()


def some(names: Sequence[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def list_folder(folder: Path) -> Listing:
    """Looks through a folder; links to folders are followed, each place once.

    Files without an ending that a reader has are looked into: DICOM needs none.
    """
    listing = Listing(Path(os.path.abspath(folder)))
    everything = list(_entries(listing))
    there = {str(path) for path in everything}
    companions = {companion for path in everything for companion in _companions(path)}
    for path in everything:
        ending = suffix_of(path)
        if not path.exists():
            listing.put_aside(path, "links to nothing")
        elif _SHARD.fullmatch(path.name):
            listing.put_aside(path, "shards of synthetic samples, which are no training data")
        elif path.name.lower().startswith("dicomdir"):
            listing.put_aside(path, "indices of DICOM files")
        elif str(path) in companions:
            continue
        elif ending in (".img", ".img.gz") and not _header_of(path, there):
            listing.put_aside(path, ".img files without their .hdr")
        elif ending or (path.suffix.lower() not in _NO_DICOM and path.is_file() and is_dicom(path)):
            listing.files.append(path)
        else:
            listing.put_aside(path, OTHER_KINDS)
    return listing


def _entries(listing: Listing) -> Iterator[Path]:
    seen: set[str] = set()
    for place, folders, names in os.walk(listing.folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            listing.put_aside(Path(place), "links to a folder that was read already")
            continue
        seen.add(real)
        for name in sorted(folders):
            if _is_hidden(name):
                listing.put_aside(Path(place, name), "hidden entries")
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(names):
            if _is_hidden(name):
                listing.put_aside(Path(place, name), "hidden entries")
            else:
                yield Path(place, name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _SYSTEM


def _header_of(path: Path, there: set[str]) -> str:
    stem = str(path)[: -len(suffix_of(path))]
    packed = ".gz" if path.name.lower().endswith(".gz") else ""
    return next((stem + end + packed for end in (".hdr", ".HDR") if stem + end + packed in there), "")


def _companions(path: Path) -> Iterator[str]:
    """Files that belong to this one: the header and orientation of an .img, the data of an .mhd or .nhdr."""
    ending = suffix_of(path)
    if ending in (".img", ".img.gz"):
        stem, packed = str(path)[: -len(ending)], ".gz" if ending.endswith(".gz") else ""
        yield from (stem + end + packed for end in (".hdr", ".HDR"))
        yield f"{stem}.mat"  # where SPM notes the orientation
    elif ending in (".mhd", ".nhdr") and path.exists():
        found = _DATA_FILE.search(path.read_bytes()[:65536].decode("latin-1"))
        if found:
            yield str(path.with_name(found.group(1)))


__all__ = ["OTHER_KINDS", "Listing", "list_folder", "some", "stem_of"]
