"""Where exported images lie: the options ``--spacing``, ``--like`` and ``--parents`` of ``torchgenaug export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from torchgenaug.errors import ConfigurationError, missing_extra
from torchgenaug.export.geometry import Affine, Geometry
from torchgenaug.recipes.data.resize import fit_affine, thick_axes

_VOLUMES = (".nii", ".nii.gz", ".mgz", ".mgh", ".img", ".img.gz")


def read_geometry(
    spatial: Sequence[int],
    *,
    spacing: str | None,
    like: Path | None,
    parents: str | None,
    first_axis: Literal["x", "row"] | None,
) -> Geometry:
    """The geometry that the options state.

    Affines of real files are those of the images that `fit` would make of them: turned to RAS+, scaled with their
    proportions to `spatial`, and centred there.

    Args:
        spatial: size of the synthetic images.
        spacing: numbers between commas.
        like: a file that nibabel reads.
        parents: a folder as for `fit`.
        first_axis: see `Geometry`.

    Raises:
        ConfigurationError: more than one of them, a file without an affine, or one of another number of axes.
    """
    if like is not None and parents is not None:
        raise ConfigurationError("--like and --parents must not be given together. Leave one of them out.")
    return Geometry(
        affine=None if like is None else _fitted(_read(like), spatial, like),
        parents=None if parents is None else _of_parents(parents, spatial),
        spacing_mm=None if spacing is None else _spacing(spacing, len(spatial)),
        first_axis=first_axis,
    )


def _of_parents(name: str, spatial: Sequence[int]) -> list[Affine]:
    from torchgenaug.recipes.data.layout import read_layout

    folder = Path(name)
    if not folder.is_dir():
        raise ConfigurationError(
            f"--parents must be a folder of NIfTI files, got {name!r}. State one affine for all images instead: --like "
            "FILE."
        )
    paths = [str(each.image[0]) for each in read_layout(folder).records]
    stretched = _stretched(_read(Path(paths[0])), len(spatial))
    return [_fitted(_read(Path(path)), spatial, Path(path), stretched) for path in paths]


def _read(path: Path) -> Any:
    """The file, turned to RAS+; its values are not read."""
    if not path.name.lower().endswith(_VOLUMES):
        raise ConfigurationError(
            f"An affine must come from a file that nibabel reads ({', '.join(_VOLUMES)}), got {path}. State the "
            "spacing instead: --spacing 1,1,3."
        )
    try:
        import nibabel
    except ImportError as error:
        raise missing_extra("--like and --parents", package="nibabel", extra="export") from error
    library: Any = nibabel
    try:
        return library.as_closest_canonical(library.load(path))
    except (OSError, library.filebasedimages.ImageFileError) as error:
        raise ConfigurationError(f"An affine must come from a file that can be read, got {path}: {error}.") from error


def _fitted(image: Any, spatial: Sequence[int], path: Path, stretched: tuple[int, ...] | None = None) -> Affine:
    dims = len(spatial)
    shape = tuple(image.shape[:3])
    if len(shape) != 3 or (dims == 2 and shape[2] != 1):
        raise ConfigurationError(
            f"An affine must come from an image with {dims} axes, as the synthetic ones have, got {path} of shape "
            f"{tuple(image.shape)}. State the spacing instead: --spacing 1,1{',3' * (dims == 3)}."
        )
    inner = fit_affine(shape[:dims], spatial, _stretched(image, dims) if stretched is None else stretched)
    return np.asarray(image.affine, np.float64) @ inner


def _stretched(image: Any, dims: int) -> tuple[int, ...]:
    zooms = tuple(float(each) for each in image.header.get_zooms()[:dims])
    return thick_axes(tuple(image.shape[:dims]), zooms)


def _spacing(text: str, dims: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.lower().replace("x", ",").split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, dims):
        raise ConfigurationError(
            f"--spacing must be one number, or {dims} with commas between them, got {text!r}. For example "
            f"{','.join('1' * dims)}."
        )
    return values * dims if len(values) == 1 else values
