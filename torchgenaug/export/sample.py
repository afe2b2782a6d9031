"""`ExportedSample`: one sample on its way into files, and which of its fields are images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from torchgenaug.export.geometry import Affine
from torchgenaug.types import FieldSpec


@dataclass(frozen=True, eq=False)
class ExportedSample:
    """One sample.

    Attributes:
        position: in the source.
        name: of its files, without ending.
        images: intensity fields and masks, (channels, *spatial) each.
        scalars: everything else that the table states: ``id``, ``seed``, ``label``, ….
        affine: RAS+.
    """

    position: int
    name: str
    images: Mapping[str, npt.NDArray[Any]]
    scalars: Mapping[str, int | float | str]
    affine: Affine


class Writer(Protocol):
    """Writes samples into files."""

    group: int
    """How many neighbouring samples are read, and handed over, together."""

    def targets(self, position: int, name: str) -> Mapping[str, Path]:
        """Field → the file or folder that is there once the sample is written, relative to the export."""
        ...

    def write(self, samples: Sequence[ExportedSample], scratch: Path, out: Path) -> None:
        """Writes the samples, into `scratch` first, so that what is in `out` is whole."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """What a resumed export compares, JSON-ready."""
        ...


def image_fields(fields: Mapping[str, FieldSpec]) -> dict[str, FieldSpec]:
    """The fields that are images or masks."""
    return {name: spec for name, spec in fields.items() if spec.kind != "scalar" and len(spec.shape) in (3, 4)}


def folder_of(field: str) -> str:
    """Where the images of a field lie: ``images`` and ``masks`` for the usual two, else the field's name."""
    return {"image": "images", "mask": "masks"}.get(field, field)
