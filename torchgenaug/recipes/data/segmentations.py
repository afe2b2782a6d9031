"""`with_segmentations`: DICOM segmentation objects as the masks of the images that they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.grid import Grid
from torchgenaug.recipes.data.listing import Listing, some
from torchgenaug.recipes.data.parts import Planes, Segmentation
from torchgenaug.recipes.data.readers.dicom_header import DicomHeader
from torchgenaug.recipes.data.readers.dicom_seg import grid_of_frames
from torchgenaug.recipes.data.records import FileRecord
from torchgenaug.recipes.data.selection import NO_MASKS, Glob, Selection

_REASON = "DICOM segmentations"
_MAX_CLASSES = 31


@dataclass(frozen=True)
class _Placed:
    """An image, the series that it is part of, and where it lies."""

    record: FileRecord
    series: str
    frame_of_reference: str
    grid: Grid | None
    is_volume: bool


def with_segmentations(
    records: Sequence[FileRecord], headers: Mapping[str, DicomHeader], listing: Listing, selection: Selection
) -> tuple[list[FileRecord], tuple[str, ...]]:
    """The records with the segmentations of their series as masks; those of no image here stay counted as not used.

    Raises:
        ConfigurationError: images without a segmentation where others have one; more than 31 segments.
    """
    objects = chosen_segmentations(headers, selection)
    if not objects or any(record.mask for record in records):
        return list(records), ()
    placed = [_placed(record, headers) for record in records]
    found: dict[str, list[str]] = defaultdict(list)
    for key, header in objects.items():
        for image in placed:
            if image.grid is not None and _belongs(header, image):
                found[image.record.key].append(key)
    if not found:
        return list(records), ()
    lacking = [record for record in records if record.key not in found]
    if lacking and selection.masks is None:
        raise ConfigurationError(
            f"Every image must have a DICOM segmentation or none, got none for {len(lacking)} of {len(records)}: "
            f"{some([each.key for each in lacking])}. Add them, use only images that have one (--masks "
            f"'*{Path(next(iter(objects))).suffix or Path(next(iter(objects))).name}'), or leave masks out: --masks "
            "none."
        )
    used = {key for keys in found.values() for key in keys}
    classes, remark = _classes({key: objects[key] for key in sorted(used)})
    for record in lacking:
        listing.put_aside(listing.folder / record.key, "images without a mask")
    listing.others[_REASON] = [key for key in listing.others.get(_REASON, []) if key not in used]
    masked = []
    for image in placed:
        keys = found.get(image.record.key)
        if keys and image.grid is not None:
            parts = (Segmentation(listing.folder / key, image.grid, image.is_volume, classes[key]) for key in keys)
            masked.append(replace(image.record, mask=tuple(parts)))
    return masked, (f"Masks are {len(used)} DICOM segmentation{'s' if len(used) > 1 else ''}: {remark}.",)


def chosen_segmentations(headers: Mapping[str, DicomHeader], selection: Selection) -> dict[str, DicomHeader]:
    """The segmentation objects that may be masks, by their paths."""
    objects = {key: header for key, header in headers.items() if header.is_segmentation}
    if selection.masks is None:
        return objects
    chosen = set() if selection.masks == NO_MASKS else Glob(selection.masks).keep(objects)
    return {key: header for key, header in objects.items() if key in chosen}


def _belongs(header: DicomHeader, image: _Placed) -> bool:
    if header.references:
        return image.series in header.references
    return bool(header.frame_of_reference) and header.frame_of_reference == image.frame_of_reference


def _placed(record: FileRecord, headers: Mapping[str, DicomHeader]) -> _Placed:
    header, part = headers.get(record.key), record.image[0]
    if header is None or len(record.image) > 1:
        return _Placed(record, "", "", None, is_volume=False)
    if isinstance(part, Planes):
        return _Placed(record, header.series, header.frame_of_reference, part.grid, is_volume=True)
    grid = None
    if header.kind[3] > 1 and isinstance(part, Path):
        grid = grid_of_frames(part)
    elif header.kind[3] == 1:
        stated = header.position is not None and header.axes is not None
        spacing = None if header.spacing_mm is None else (header.between_mm or 1.0, *header.spacing_mm)
        grid = Grid(
            (header.position or (0.0, 0.0, 0.0),),
            header.axes or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            spacing,
            header.kind[:2],
            stated,
            (header.uid,),
        )
    return _Placed(record, header.series, header.frame_of_reference, grid, is_volume=False)


def _classes(objects: Mapping[str, DicomHeader]) -> tuple[dict[str, tuple[tuple[int, int], ...]], str]:
    """Class of each segment of each object, and how they were numbered: by segment, or by label where these differ."""
    labels: dict[int, set[str]] = defaultdict(set)
    for header in objects.values():
        for number, label in header.segments.items():
            labels[number].add(label)
    if all(len(names) == 1 for names in labels.values()):
        numbers = sorted(labels)
        class_of = {number: place for place, number in enumerate(numbers, 1)}
        _check_number([next(iter(labels[number])) for number in numbers])
        named = ", ".join(f"{class_of[number]} {next(iter(labels[number]))}".strip() for number in numbers)
        return {
            key: tuple((number, class_of[number]) for number in header.segments) for key, header in objects.items()
        }, f"classes {named}"
    names = sorted({label for found in labels.values() for label in found})
    _check_number(names)
    by_label = {label: place for place, label in enumerate(names, 1)}
    named = ", ".join(f"{place} {label}" for label, place in by_label.items())
    return (
        {
            key: tuple((number, by_label[label]) for number, label in header.segments.items())
            for key, header in objects.items()
        },
        f"classes by their labels, since segment numbers differ, {named}",
    )


def _check_number(names: Sequence[str]) -> None:
    if len(names) > _MAX_CLASSES:
        raise ConfigurationError(
            f"DICOM segmentations must have at most {_MAX_CLASSES} different segments, got {len(names)}: "
            f"{some(names)}. Choose some of the objects with --masks GLOB, or leave masks out: --masks none."
        )


__all__ = ["chosen_segmentations", "with_segmentations"]
