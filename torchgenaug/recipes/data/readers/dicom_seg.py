"""DICOM segmentation objects (SEG) as masks on the planes of the images that they belong to."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.recipes.data.grid import Grid, Vector
from torchgenaug.recipes.data.parts import Segmentation
from torchgenaug.recipes.data.readers.decoded import Array, Decoded
from torchgenaug.recipes.data.readers.dicom import load_dicom, pydicom_library, quiet

_NEAR = 0.5  # of the distance of planes, and of pixels: farther away, a frame lies on another plane or grid
_TURNED = 0.01  # largest difference of a direction cosine


@dataclass(frozen=True)
class Frames:
    """The frames of a file and where each lies.

    Args:
        values: (frames, rows, columns): 0 and 1, fractions in [0, 1], or segment numbers of a label map.
        is_label_map: whether values are segment numbers.
        segments: number of each frame's segment; 0 in a label map.
        positions: of each frame; None where the file states none.
        axes: of each frame; None where the file states none.
        sources: SOP Instance UIDs of the images that each frame was drawn on.
    """

    values: Array
    is_label_map: bool
    segments: tuple[int, ...]
    positions: tuple[Vector | None, ...]
    axes: tuple[tuple[float, ...] | None, ...]
    sources: tuple[frozenset[str], ...]


def read_segmentation(part: Segmentation) -> Decoded:
    """(1, planes or nothing, rows, columns), or (1, x, y, z) of a volume: classes, the highest where segments overlap.

    Planes that no frame lies on are 0: segmentations leave empty frames out.

    Raises:
        ValueError: a frame on another grid than the image's.

    References:
        DICOM PS3.3 A.51 (segmentation) and A.101 (label map segmentation).
    """
    frames, grid = _frames(str(part.path), part.path.stat().st_mtime_ns), part.grid
    if frames.values.shape[1:] != grid.shape:
        raise ValueError(
            f"a segmentation must have the rows and columns of its images, {grid.shape}, got {frames.values.shape[1:]}"
        )
    classes = dict(part.classes)
    planes = np.zeros((len(grid.origins), *grid.shape), np.uint8)
    for number in range(len(frames.values)):
        plane = _plane_of(frames, number, grid)
        if plane is None:
            continue
        if frames.is_label_map:
            found = np.zeros(grid.shape, np.uint8)
            for segment, label in classes.items():
                found[frames.values[number] == segment] = label
        else:
            found = (frames.values[number] >= 0.5).astype(np.uint8) * classes[frames.segments[number]]
        np.maximum(planes[plane], found, out=planes[plane])
    if part.is_volume:
        values, spacing, axes = grid.to_ras(planes[None])
        return Decoded(values, spacing, x_first=True, stored_axes=axes)
    return Decoded(planes if len(planes) == 1 else planes[None])


def grid_of_frames(path: Path) -> Grid | None:
    """The planes of an enhanced (multi-frame) image in the order of its frames; None where it states none."""
    with quiet():
        dataset = load_dicom(path, stop_before_pixels=True)
        count = int(dataset.get("NumberOfFrames", 1) or 1)
        placed = [_place(dataset, frame) for frame in range(count)]
    positions = [position for position, _ in placed if position is not None]
    axes = placed[0][1]
    if len(positions) != count or axes is None:
        return None
    return Grid(tuple(positions), axes, None, (int(dataset.Rows), int(dataset.Columns)))


@functools.lru_cache(maxsize=2)
def _frames(path: str, changed: int) -> Frames:
    """`changed`, the time of the last change, keeps a rewritten file from being taken for the one before."""
    with quiet():
        dataset = load_dicom(Path(path))
        values: Array = np.asarray(pydicom_library().pixels.pixel_array(dataset))
        values = values[None] if values.ndim == 2 else values
        kind = str(dataset.get("SegmentationType", "BINARY"))
        if kind == "FRACTIONAL":
            values = values / float(dataset.get("MaximumFractionalValue", 255) or 255)
        placed = [_place(dataset, frame) for frame in range(len(values))]
        return Frames(
            values,
            kind == "LABELMAP",
            tuple(_segment(dataset, frame) for frame in range(len(values))),
            tuple(position for position, _ in placed),
            tuple(axes for _, axes in placed),
            tuple(_sources(dataset, frame) for frame in range(len(values))),
        )


def _groups(dataset: Any, frame: int) -> list[Any]:
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    return [*per_frame[frame : frame + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])]


def _place(dataset: Any, frame: int) -> tuple[Vector | None, tuple[float, ...] | None]:
    position: Vector | None = None
    axes: tuple[float, ...] | None = None
    for group in _groups(dataset, frame):
        for item in group.get("PlanePositionSequence") or []:
            stated = item.get("ImagePositionPatient")
            if position is None and stated:
                position = (float(stated[0]), float(stated[1]), float(stated[2]))
        for item in group.get("PlaneOrientationSequence") or []:
            stated = item.get("ImageOrientationPatient")
            if axes is None and stated:
                axes = tuple(float(each) for each in stated)
    return position, axes


def _segment(dataset: Any, frame: int) -> int:
    for group in _groups(dataset, frame):
        for item in group.get("SegmentIdentificationSequence") or []:
            return int(item.ReferencedSegmentNumber)
    numbers = [int(each.SegmentNumber) for each in dataset.get("SegmentSequence") or []]
    return numbers[0] if len(numbers) == 1 else 0


def _sources(dataset: Any, frame: int) -> frozenset[str]:
    return frozenset(
        str(source.get("ReferencedSOPInstanceUID", ""))
        for group in _groups(dataset, frame)
        for derived in group.get("DerivationImageSequence") or []
        for source in derived.get("SourceImageSequence") or []
    )


def _plane_of(frames: Frames, number: int, grid: Grid) -> int | None:
    """Which plane of the image a frame lies on; None where it lies outside of them."""
    position, axes = frames.positions[number], frames.axes[number]
    if position is None:
        found = [plane for plane, uid in enumerate(grid.uids) if uid in frames.sources[number]]
        if len(found) == 1:
            return found[0]
        raise ValueError(f"frame {number + 1} must state its position or its image, got neither of an image here")
    depths = grid.depths()
    away = np.abs(depths - float(np.dot(position, grid.normal)))
    plane = int(away.argmin())
    between = float(np.diff(np.sort(depths)).min()) if len(depths) > 1 else (grid.spacing_mm or (1.0,))[0]
    if away[plane] > _NEAR * abs(between):
        return None
    pixel = min(grid.spacing_mm[1:]) if grid.spacing_mm is not None else 1.0
    offset = float(np.linalg.norm(np.subtract(position, grid.origins[plane]) - grid.normal * np.dot(
        np.subtract(position, grid.origins[plane]), grid.normal)))  # fmt: skip
    turned = axes is not None and float(np.abs(np.subtract(axes, grid.axes)).max()) > _TURNED
    if offset > _NEAR * pixel or turned:
        raise ValueError(
            f"frame {number + 1} must lie on the pixels of its image, got one that is "
            f"{'turned' if turned else f'{offset:g} mm away in its plane'}; resample the segmentation onto the image"
        )
    return plane


__all__ = ["grid_of_frames", "read_segmentation"]
