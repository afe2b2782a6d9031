"""Where the voxels of exported images lie in space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError

Affine: TypeAlias = npt.NDArray[np.float64]
FirstAxis: TypeAlias = Literal["x", "row"]

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Geometry:
    """Affine or spacing of exported images. RAS+ as in NIfTI: millimetres to the right, to the front, and up.

    Args:
        affine: (4, 4) from voxel indices (i, j, k) to mm, of every image; of an image with two axes, k is 0.
        parents: one such affine for each real sample; a synthetic one gets that of its ``parent`` field.
        spacing_mm: distance of neighbouring voxels along each spatial axis, where no affine is known.
        first_axis: ``"x"``: the first spatial axis runs from left to right and the second to the front, as in volumes
            read from NIfTI. ``"row"``: the first axis counts rows from the top, as in pictures. None: ``"x"`` for
            volumes, ``"row"`` for pictures. It decides how images without an affine lie, and how PNGs are turned.

    Raises:
        ConfigurationError: an affine that is not (4, 4), finite and invertible, a spacing that is not positive, or
            more than one of `affine`, `parents` and `spacing_mm`.
    """

    affine: npt.ArrayLike | None = None
    parents: Sequence[npt.ArrayLike] | None = None
    spacing_mm: Sequence[float] | None = None
    first_axis: FirstAxis | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("affine", "parents", "spacing_mm") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigurationError(
                f"Only one of `affine`, `parents` and `spacing_mm` must be given, got {' and '.join(given)}. Each "
                "states where voxels lie. Leave out all but one."
            )
        if self.first_axis not in (None, "x", "row"):
            raise ConfigurationError(f"`first_axis` must be 'x', 'row' or None, got {self.first_axis!r}.")
        for affine in (*([] if self.affine is None else [self.affine]), *(self.parents or ())):
            _checked(affine)
        if self.spacing_mm is not None and not _is_spacing(self.spacing_mm):
            raise ConfigurationError(
                f"`spacing_mm` must be positive numbers, one for each axis, got {self.spacing_mm!r}. For example "
                "(1.0, 1.0, 3.0)."
            )

    @property
    def is_stated(self) -> bool:
        """Whether an affine or a spacing is known."""
        return not (self.affine is None and self.parents is None and self.spacing_mm is None)

    def of(self, spatial: Sequence[int], parent: int | None) -> Affine:
        """(4, 4) of a sample.

        Args:
            spatial: size of the image along its two or three axes.
            parent: position of the real sample that its condition was taken from; None or -1: none.

        Raises:
            ConfigurationError: a sample without a parent, or whose parent has no affine, or a spacing of another number
                of axes.
        """
        if self.affine is not None:
            return _checked(self.affine)
        if self.parents is not None:
            if parent is None or not 0 <= parent < len(self.parents):
                raise ConfigurationError(
                    f"Every sample must have a parent below {len(self.parents)} to lie where its parent lies, got "
                    f"{parent}. State one affine instead (--like FILE), or give the data that the conditions came from."
                )
            return _checked(self.parents[parent])
        spacing = (1.0,) * len(spatial) if self.spacing_mm is None else tuple(self.spacing_mm)
        if len(spacing) != len(spatial):
            raise ConfigurationError(
                f"`spacing_mm` must be one number for each of the {len(spatial)} axes, got {spacing}. For example "
                f"{(1.0,) * len(spatial)}."
            )
        return _without_affine((*spacing, 1.0)[:3], spatial, self.starts_with_x(len(spatial)))

    def starts_with_x(self, dims: int) -> bool:
        """Whether the first of `dims` spatial axes runs from left to right."""
        return dims == 3 if self.first_axis is None else self.first_axis == "x"

    def to_json(self) -> dict[str, Any]:
        """What a resumed export compares."""
        return {
            "affine": None if self.affine is None else _checked(self.affine).tolist(),
            "parents": None if self.parents is None else [_checked(each).tolist() for each in self.parents],
            "spacing_mm": None if self.spacing_mm is None else [float(each) for each in self.spacing_mm],
            "first_axis": self.first_axis,
        }


def _is_spacing(spacing: Any) -> bool:
    if isinstance(spacing, str) or not hasattr(spacing, "__iter__"):
        return False
    return all(isinstance(each, Real) and math.isfinite(each) and float(each) > 0 for each in spacing)


def as_displayed(values: npt.NDArray[Any], affine: Affine) -> tuple[npt.NDArray[Any], Affine]:
    """Slices turned as viewers show them: columns run to the patient's left, rows to the back or to the feet.

    Args:
        values: (i, j, k) with an axis of length 1 for a single slice, or more axes after these.
        affine: RAS+.

    Returns:
        Values (slices, rows, columns, …), and the affine from (column, row, slice) to mm in DICOM's LPS+ axes.
    """
    nearest = _anatomical_axes(affine)  # 0: left-right, 1: front-back, 2: up-down
    flat = values.shape[2] == 1
    slices = 2 if flat else nearest.index(2)
    columns, rows = sorted((axis for axis in range(3) if axis != slices), key=lambda axis: nearest[axis])
    # To the left, to the back, and upward for slices; rows of a coronal or sagittal slice run downward.
    for axis in (columns, rows, slices):
        toward = float(affine[nearest[axis], axis])
        wanted = 1.0 if axis == slices and nearest[axis] == 2 else -1.0
        if toward * wanted < 0:
            affine = affine @ _flip(axis, values.shape[axis])
            values = np.flip(values, axis)
    turned = affine[:, [columns, rows, slices, 3]]
    return np.moveaxis(values, (slices, rows, columns), (0, 1, 2)), _LPS @ turned


def _anatomical_axes(affine: Affine) -> list[int]:
    """For each voxel axis the anatomical one that it is nearest to, each once."""
    directions = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    nearest = [0, 0, 0]
    for _ in range(3):
        world, axis = np.unravel_index(int(np.argmax(directions)), (3, 3))
        nearest[int(axis)] = int(world)
        directions[world, :] = directions[:, axis] = -1
    return nearest


def _flip(axis: int, length: int) -> Affine:
    matrix = np.eye(4)
    matrix[axis, axis], matrix[axis, 3] = -1, length - 1
    return matrix


def _without_affine(spacing: Sequence[float], spatial: Sequence[int], x_first: bool) -> Affine:
    """Centred on the origin; rows of a picture run to the back and its columns to the left, as in an axial DICOM."""
    affine = np.diag([*spacing, 1.0])
    if not x_first and len(spatial) == 2:
        affine[:2, :2] = [[0, -spacing[1]], [-spacing[0], 0]]
    elif not x_first:  # (slice, row, column)
        affine[:3, :3] = [[0, 0, -spacing[2]], [0, -spacing[1], 0], [spacing[0], 0, 0]]
    middle = np.array([*((size - 1) / 2 for size in spatial), 0.0][:3])
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine


def _checked(affine: npt.ArrayLike) -> Affine:
    try:
        matrix: Affine = np.asarray(affine, np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    is_affine = matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.allclose(matrix[3], [0, 0, 0, 1])
    if not is_affine or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        raise ConfigurationError(
            f"`affine` must be a finite, invertible matrix (4, 4) with the last row 0, 0, 0, 1, got {affine!r}. It "
            "maps voxels to mm: nibabel.load(file).affine."
        )
    return matrix
