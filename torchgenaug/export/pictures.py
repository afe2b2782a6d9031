"""Samples as PNG: a folder for each field, or the ``imagefolder`` layout of Hugging Face `datasets`."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError, missing_extra
from torchgenaug.export.levels import Levels, class_numbers
from torchgenaug.export.sample import ExportedSample, folder_of
from torchgenaug.types import FieldSpec


class PictureWriter:
    """Writes every image as a PNG of 8 or 16 bits, masks as the numbers of their classes.

    Args:
        fields: images and masks, with two spatial axes.
        bits: 8 or 16; colours have 8.
        value_range: intensities that become black and white; None: the range of each field.
        x_first: whether the first axis is x: such images are turned upright.
        root: folder below the export, ``"train"`` for `datasets`.

    Raises:
        ConfigurationError: volumes, a number of channels that PNG does not know, or a field without a range.
    """

    group = 64

    def __init__(
        self,
        fields: Mapping[str, FieldSpec],
        bits: int = 8,
        value_range: tuple[float, float] | None = None,
        x_first: bool = False,
        root: str = "",
    ) -> None:
        self.fields, self.x_first, self.root = dict(fields), x_first, root
        for name, spec in fields.items():
            if len(spec.shape) != 3:
                raise ConfigurationError(
                    f"Pictures must have two spatial axes, got field {name!r} of shape {spec.shape}. A PNG holds no "
                    "volume. Use format 'nifti', 'dicom' or 'parquet'."
                )
            if spec.shape[0] not in (1, 3) or (spec.shape[0] == 3 and bits == 16):
                raise ConfigurationError(
                    f"A picture must have 1 channel, or 3 of 8 bits each, got field {name!r} of {spec.shape[0]} "
                    f"channels and bits={bits}. Use format 'nifti'{', or bits=8' if spec.shape[0] == 3 else ''}."
                )
        self.levels = {
            name: Levels.of(name, spec, bits, value_range) for name, spec in fields.items() if spec.kind == "intensity"
        }
        self.clipped = 0

    def targets(self, position: int, name: str) -> Mapping[str, Path]:
        """One file a field."""
        return {field: Path(self.root, folder_of(field), f"{name}.png") for field in self.fields}

    def settings(self) -> Mapping[str, Any]:
        """How intensities became levels."""
        return {
            "intensities": {name: levels.to_json() for name, levels in self.levels.items()},
            "turned": int(self.x_first),
        }

    def write(self, samples: Sequence[ExportedSample], scratch: Path, out: Path) -> None:
        """One after the other."""
        for sample in samples:
            for field, path in self.targets(sample.position, sample.name).items():
                draft = scratch / path.name
                draft.write_bytes(self.png(field, sample.images[field]))
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(draft, out / path)

    def png(self, field: str, values: npt.NDArray[Any]) -> bytes:
        """The content of the PNG of an image (channels, height, width), or (channels, x, y) where x comes first.

        Raises:
            MissingExtraError: Pillow is not installed.
        """
        try:
            from PIL import Image
        except ImportError as error:
            raise missing_extra("Pictures", package="pillow", extra="export") from error
        if field in self.levels:
            values, clipped = self.levels[field].encode(values)
            self.clipped += clipped
        else:
            values = class_numbers(field, values)
        if self.x_first:
            values = np.rot90(values, axes=(1, 2))
        pixels = np.ascontiguousarray(values[0] if len(values) == 1 else np.moveaxis(values, 0, -1))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
        return buffer.getvalue()
