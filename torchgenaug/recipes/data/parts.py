"""`Part`: what holds an image or a mask: a file, a row of an array file, planes of a volume, a DICOM segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, Union

from torchgenaug.recipes.data.grid import Grid


@dataclass(frozen=True)
class ArrayRow:
    """One sample of an array file that holds many, or an array of a file that holds several of one sample.

    Args:
        path: an .npy, .npz, .h5 or .mat file.
        member: name of the array in a file of several.
        row: which sample; None: the whole array.
        axis: 0, or -1: the samples lie along the last axis.
        is_volume: whether three axes are a volume, however short one of them is, and not channels and a picture.
    """

    path: Path
    member: str | None
    row: int | None
    axis: int = 0
    is_volume: bool = False

    def __str__(self) -> str:
        row = "" if self.row is None else f" row {self.row}"
        return f"{self.path}{f' {self.member}' if self.member else ''}{row}"


@dataclass(frozen=True)
class Planes:
    """A volume whose planes are files of their own: a DICOM series.

    Args:
        parts: the file or files of each plane, in the order of the grid.
        grid: where the planes lie.
        notes: what a user should know of how they were put together.
    """

    parts: tuple[tuple[Part, ...], ...]
    grid: Grid
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.parts[0][0]} and {len(self.parts) - 1} more slices"


@dataclass(frozen=True)
class Segmentation:
    """What a DICOM segmentation object states of the planes of an image.

    Args:
        path: the object.
        grid: the planes of the image.
        is_volume: whether the image is a volume that was turned to RAS+.
        classes: number of a segment in the object → class.
    """

    path: Path
    grid: Grid
    is_volume: bool
    classes: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return str(self.path)


Part: TypeAlias = Union[Path, ArrayRow, Planes, Segmentation]  # noqa: UP007 - it names itself in Planes

__all__ = ["ArrayRow", "Part", "Planes", "Segmentation"]
