"""`stack_series`: the single-slice DICOM files of each series as one volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.grid import DEFAULT_AXES, Grid, Vector, normal_of
from torchgenaug.recipes.data.listing import Listing, some
from torchgenaug.recipes.data.parts import Planes
from torchgenaug.recipes.data.readers.dicom_header import DicomHeader
from torchgenaug.recipes.data.records import FileRecord

_UNEVEN = 0.1  # of the distance of slices: more is a gap, or a slice too many
_TILTED = 0.5  # of a pixel: by how much the first pixels of neighbouring slices may leave the normal
_SAME_DIRECTION = 0.01  # largest difference of a direction cosine
_NO_STACK = "leave --volumes out to train on slices"


def stack_series(
    records: Sequence[FileRecord], headers: Mapping[str, DicomHeader], listing: Listing
) -> tuple[list[FileRecord], tuple[str, ...]]:
    """The records with the slices of each DICOM series as one volume, and what a user should know.

    Slices are sorted by Image Position (Patient) along their normal (else by Slice Location or Instance Number).
    Copies of a slice, and series of one slice where others have more, are put aside in `listing`.

    Raises:
        ConfigurationError: no series of several slices; missing slices or several at one place, named; slices of one
            series with different classes.
    """
    groups: dict[tuple[object, ...], list[FileRecord]] = defaultdict(list)
    directions: list[tuple[float, ...]] = []
    for record in records:
        header = headers.get(record.key)
        if header is not None and len(record.image) == 1 and header.kind[3] == 1:
            series = header.series or record.key.rpartition("/")[0]
            groups[series, _direction(header, directions), header.kind].append(record)
    several = [group for group in groups.values() if len(group) > 1]
    if not several:
        raise ConfigurationError(
            f"`volumes` must be left out where no DICOM series has several slices, got {len(records)} images in "
            f"{listing.folder}, each a series of its own or no single slice. Leave --volumes out, and give --size and "
            "--spacing as many numbers as the files have axes."
        )
    stacked: dict[str, FileRecord] = {}
    skipped: set[str] = set()
    for group in groups.values():
        if len(group) == 1:
            listing.put_aside(listing.folder / group[0].key, "single DICOM slices of other series or orientations")
            skipped.add(group[0].key)
            continue
        volume = _volume(_without_copies(group, headers, listing), headers)
        stacked[volume.key] = volume
        skipped.update(each.key for each in group)
    result = [stacked.get(each.key, each) for each in records if each.key in stacked or each.key not in skipped]
    num_slices = [len(each.image[0].parts) for each in stacked.values() if isinstance(each.image[0], Planes)]
    counts = f"{min(num_slices)} to {max(num_slices)}" if min(num_slices) < max(num_slices) else str(num_slices[0])
    return result, (f"Slices of {len(stacked)} DICOM series were stacked into volumes of {counts} slices.",)


def _direction(header: DicomHeader, known: list[tuple[float, ...]]) -> int:
    """Number of an orientation among those that are known; files of one series differ in the last digits."""
    axes = header.axes or ()
    for number, other in enumerate(known):
        if len(other) == len(axes) and np.allclose(other, axes, atol=_SAME_DIRECTION):
            return number
    known.append(axes)
    return len(known) - 1


def unstacked_remark(records: Sequence[FileRecord], headers: Mapping[str, DicomHeader]) -> tuple[str, ...]:
    """That slices of series are read as images of their own, where that is so."""
    found = [headers[each.key] for each in records if each.key in headers and headers[each.key].kind[3] == 1]
    series = {each.series for each in found if each.series}
    if not series or len(found) < 3 * len(series):
        return ()
    return (
        f"Slices of {len(series)} DICOM series were read as {len(found)} images of their own: --volumes (volumes=True) "
        "stacks each series into a volume.",
    )


def _without_copies(
    group: Sequence[FileRecord], headers: Mapping[str, DicomHeader], listing: Listing
) -> list[FileRecord]:
    known: dict[str, FileRecord] = {}
    for record in sorted(group, key=lambda each: each.key):
        uid = headers[record.key].uid or record.key
        if uid in known:
            listing.put_aside(listing.folder / record.key, "copies of DICOM slices")
        else:
            known[uid] = record
    return list(known.values())


def _volume(group: list[FileRecord], headers: Mapping[str, DicomHeader]) -> FileRecord:
    first = min(group, key=lambda each: each.key)
    if len({each.label for each in group}) > 1:
        raise ConfigurationError(
            f"All slices of a DICOM series must have one class to be a volume, got several in the series of "
            f"{first.key}. Give them one class, or {_NO_STACK}."
        )
    origins, by = _origins(group, headers)
    head = headers[first.key]
    axes = head.axes or DEFAULT_AXES
    normal = normal_of(axes)
    depths = np.asarray(origins) @ normal
    order = np.argsort(depths, kind="stable")
    group, sorted_depths = [group[k] for k in order], depths[order]
    between = _check_steps(group, sorted_depths)
    pixel = head.spacing_mm
    known = pixel is not None and (by != "Instance Number" or head.between_mm is not None)
    grid = Grid(
        tuple(origins[k] for k in order),
        axes,
        (between, *pixel) if known and pixel is not None else None,
        head.kind[:2],
        head.axes is not None,
        tuple(headers[each.key].uid for each in group),
    )
    notes: tuple[str, ...] = () if by == "" else (f"slices that state no position were sorted by {by}",)
    steps = np.diff(np.asarray(grid.origins), axis=0)
    shift = float(np.linalg.norm(steps - np.outer(steps @ normal, normal), axis=1).max()) if len(steps) else 0.0
    if shift > _TILTED * (min(pixel) if pixel else 1.0):
        notes += (f"slices are shifted by {shift:.2g} mm against each other (a tilted gantry), which was left so",)
    masks = (Planes(tuple(each.mask for each in group), grid),) if group[0].mask else ()
    sources = (Planes(tuple(each.source for each in group), grid),) if group[0].source else ()
    return replace(first, image=(Planes(tuple(each.image for each in group), grid, notes),), mask=masks, source=sources)


def _origins(group: Sequence[FileRecord], headers: Mapping[str, DicomHeader]) -> tuple[list[Vector], str]:
    """The place of each slice, and what stands for it where none is stated: "" where it is."""
    found = [headers[each.key] for each in group]
    positions = [each.position for each in found if each.position is not None]
    if len(positions) == len(found):
        return positions, ""
    normal = normal_of(found[0].axes or DEFAULT_AXES)
    locations = [each.location for each in found if each.location is not None]
    numbers = [each.number for each in found if each.number is not None]
    if len(locations) == len(found):
        places, by = locations, "Slice Location"
    elif len(numbers) == len(found):
        places, by = [number * (found[0].between_mm or 1.0) for number in numbers], "Instance Number"
    else:
        lacking = [each.key for each in group if headers[each.key].position is None]
        raise ConfigurationError(
            f"Every slice of a series must state its position to be part of a volume, got {len(lacking)} of "
            f"{len(found)} without Image Position, Slice Location and Instance Number: {some(lacking)}. Convert the "
            f"series to NIfTI (dcm2niix), or {_NO_STACK}."
        )
    placed = [normal * place for place in places]
    return [(float(x), float(y), float(z)) for x, y, z in placed], by


def _check_steps(group: Sequence[FileRecord], depths: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """The distance of slices, in mm."""
    steps = np.diff(depths)
    usual = float(np.median(steps[steps > 1e-3])) if bool((steps > 1e-3).any()) else 0.0
    same = np.flatnonzero(steps < _UNEVEN * usual) if usual else np.arange(len(steps))
    if len(same):
        pairs = [f"{group[k].key} and {group[k + 1].key}" for k in same[:3]]
        raise ConfigurationError(
            f"Every slice of a series must lie at a place of its own, got {len(same)} "
            f"pair{'s' if len(same) > 1 else ''} at one: {some(pairs)}. They are several time points, echoes or "
            f"acquisitions: choose one with --images GLOB, or {_NO_STACK}."
        )
    gaps = np.flatnonzero(np.abs(steps - usual) > _UNEVEN * usual)
    if len(gaps):
        k = int(gaps[0])
        raise ConfigurationError(
            f"Slices of a series must be evenly spaced, got {len(gaps)} gap{'s' if len(gaps) > 1 else ''} other than "
            f"{usual:g} mm: {steps[k]:g} mm between {group[k].key} and {group[k + 1].key}. Add the slices that are "
            f"missing, leave the series out (--images GLOB), or {_NO_STACK}."
        )
    return usual


__all__ = ["stack_series", "unstacked_remark"]
