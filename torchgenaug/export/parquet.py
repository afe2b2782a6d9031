"""Samples as Parquet files that Hugging Face `datasets` loads with their features."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchgenaug.errors import missing_extra
from torchgenaug.export.nifti import nifti_bytes
from torchgenaug.export.pictures import PictureWriter
from torchgenaug.export.sample import ExportedSample
from torchgenaug.types import FieldSpec

_PART_BYTES = 256 << 20  # of images before compression: below the 500 MB that the Hub advises
_MOST_ROWS = 4096


class ParquetWriter:
    """Writes ``data/train-XXXXX-of-XXXXX.parquet``: pictures as PNG, volumes as NIfTI, and a column for each scalar.

    Args:
        fields: images and masks.
        scalars: the other columns.
        count: samples in all.
        class_names: of ``label``; empty: the numbers are the names.
        pictures: how pictures are encoded; None for volumes.
    """

    def __init__(
        self,
        fields: Mapping[str, FieldSpec],
        scalars: Mapping[str, FieldSpec],
        count: int,
        class_names: Sequence[str] = (),
        pictures: PictureWriter | None = None,
    ) -> None:
        self.fields, self.scalars, self.count, self.pictures = dict(fields), dict(scalars), count, pictures
        self.class_names = list(class_names) or _numbers(scalars.get("label"))
        size = max(1, sum(_num_bytes(spec) for spec in fields.values()))
        self.group = max(1, min(_MOST_ROWS, _PART_BYTES // size))

    @property
    def clipped(self) -> int:
        """Values that lay outside of the range."""
        return 0 if self.pictures is None else self.pictures.clipped

    def targets(self, position: int, name: str) -> Mapping[str, Path]:
        """The file that the sample is in."""
        parts = -(-self.count // self.group)
        path = Path("data", f"train-{position // self.group:05d}-of-{parts:05d}.parquet")
        return dict.fromkeys(self.fields, path)

    def settings(self) -> Mapping[str, Any]:
        """How images became bytes."""
        return {"pictures": None if self.pictures is None else self.pictures.settings(), "rows": self.group}

    def write(self, samples: Sequence[ExportedSample], scratch: Path, out: Path) -> None:
        """All samples of one file."""
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise missing_extra("Format 'parquet'", package="pyarrow", extra="export") from error
        library: Any = pyarrow
        path = next(iter(self.targets(samples[0].position, samples[0].name).values()))
        columns: dict[str, Any] = {}
        for field in self.fields:
            ending = ".nii.gz" if self.pictures is None else ".png"
            values = [{"bytes": self._encoded(field, each), "path": f"{each.name}{ending}"} for each in samples]
            form = library.struct([("bytes", library.binary()), ("path", library.string())])
            columns[field] = library.array(values, form)
        for name in samples[0].scalars:
            columns[name] = library.array([each.scalars[name] for each in samples])
        table = library.table(columns)
        features = {"info": {"features": self._features(table.schema)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        draft = scratch / path.name
        # Small groups of rows, so that the Hub's viewer reads a page without the whole file.
        parquet.write_table(table, draft, row_group_size=100)
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft, out / path)

    def _encoded(self, field: str, sample: ExportedSample) -> bytes:
        if self.pictures is not None:
            return self.pictures.png(field, sample.images[field])
        is_mask = self.fields[field].kind == "label_map"
        return nifti_bytes(field, sample.images[field], sample.affine, is_mask=is_mask)

    def _features(self, schema: Any) -> dict[str, Any]:
        """The features of the columns, as `datasets.Features.to_dict` writes them."""
        found: dict[str, Any] = {}
        for column in schema:
            if column.name in self.fields:
                found[column.name] = {"_type": "Nifti" if self.pictures is None else "Image"}
            elif column.name == "label" and self.class_names:
                found[column.name] = {"names": self.class_names, "_type": "ClassLabel"}
            else:
                dtype = {"double": "float64"}.get(str(column.type), str(column.type))
                found[column.name] = {"dtype": dtype, "_type": "Value"}
        return found


def _num_bytes(spec: FieldSpec) -> int:
    size = 4
    for each in spec.shape:
        size *= each
    return size


def _numbers(spec: FieldSpec | None) -> list[str]:
    """Names of classes that have none: their numbers."""
    if spec is None or spec.value_range is None or spec.dtype.is_floating_point:
        return []
    return [str(number) for number in range(int(spec.value_range[1]) + 1)]
