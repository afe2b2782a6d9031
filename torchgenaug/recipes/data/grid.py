"""`Grid`: where the planes of a volume lie in the patient, as DICOM states it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug.recipes.data.readers.decoded import Array

Vector = tuple[float, float, float]
DEFAULT_AXES = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # axial, as most files without an orientation are


def normal_of(axes: Sequence[float]) -> npt.NDArray[np.float64]:
    """(3,) unit vector normal to the rows and columns of Image Orientation (Patient)."""
    found = np.cross(axes[:3], axes[3:])
    return np.asarray(found / (np.linalg.norm(found) or 1.0))


@dataclass(frozen=True)
class Grid:
    """Parallel planes of pixels in the coordinates of the patient: mm, x to the left, y to the back, z to the head.

    Args:
        origins: centre of the first pixel of each plane, in the order of the planes (Image Position (Patient)).
        axes: direction of the rows (along which columns count) and of the columns (Image Orientation (Patient)).
        spacing_mm: distance of planes, of rows, of columns; None where unknown.
        shape: rows and columns.
        is_stated: whether the files state the orientation; else it is a default.
        uids: SOP Instance UID of each plane's image; empty: unknown.

    References:
        DICOM PS3.3 C.7.6.2.1.1 (Image Position and Image Orientation), equation C.7.6.2.1-1.
    """

    origins: tuple[Vector, ...]
    axes: tuple[float, ...]
    spacing_mm: tuple[float, float, float] | None
    shape: tuple[int, int]
    is_stated: bool = True
    uids: tuple[str, ...] = ()

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """(3,) direction of the planes' normal, along which they are counted."""
        return normal_of(self.axes)

    def depths(self) -> npt.NDArray[np.float64]:
        """(planes,) place of each plane along the normal, in mm."""
        return np.asarray(self.origins, np.float64) @ self.normal

    def to_ras(self, planes: Array) -> tuple[Array, tuple[float, ...] | None, str]:
        """Planes as a volume whose axes point right, to the front and to the head, as those of NIfTI volumes.

        Args:
            planes: (channels, planes, rows, columns).

        Returns:
            (channels, x, y, z), its spacing in mm, and the axes before: "LPS", with a question mark if by default.
        """
        from nibabel import orientations

        library: Any = orientations
        row_axis, column_axis = np.array(self.axes[:3]), np.array(self.axes[3:])
        # Columns of the affine: one step along the columns' number, the rows' number, the planes; LPS to RAS.
        affine = np.stack([row_axis, column_axis, self.normal], 1) * np.array([[-1.0], [-1.0], [1.0]])
        turns = library.io_orientation(np.vstack([np.c_[affine, np.zeros(3)], [0, 0, 0, 1]]))
        turned = library.apply_orientation(planes.transpose(3, 2, 1, 0), turns)
        codes = "".join(library.ornt2axcodes(turns))
        spacing = None
        if self.spacing_mm is not None:
            between, rows, columns = self.spacing_mm
            stored = (columns, rows, between)
            spacing = tuple(stored[int(axis)] for axis in np.argsort(turns[:, 0]))
        return np.ascontiguousarray(np.moveaxis(turned, -1, 0)), spacing, codes if self.is_stated else f"{codes}?"


__all__ = ["DEFAULT_AXES", "Grid", "Vector", "normal_of"]
