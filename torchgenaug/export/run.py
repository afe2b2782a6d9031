"""`export_samples`: a synthetic source, written as files that other programs open."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from torchgenaug.checksums import read_entries, with_checksum
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, IntensityMismatchWarning, StateMismatchError
from torchgenaug.export.card import write_card
from torchgenaug.export.dicom import DicomWriter, Modality
from torchgenaug.export.geometry import Geometry
from torchgenaug.export.names import check_names, class_names_of
from torchgenaug.export.nifti import NiftiWriter
from torchgenaug.export.parquet import ParquetWriter
from torchgenaug.export.pictures import PictureWriter
from torchgenaug.export.remarks import remarks_on
from torchgenaug.export.sample import ExportedSample, Writer, image_fields
from torchgenaug.export.table import sample_rows, scalar_fields, write_tables
from torchgenaug.file_locks import folder_held
from torchgenaug.local_paths import make_folder
from torchgenaug.sources.selected import check_unchanging
from torchgenaug.types import finite_range

Format: TypeAlias = Literal["nifti", "dicom", "png", "parquet", "imagefolder"]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""

EXPORT_NAME = "export.json"
_SCRATCH = ".unfinished"
_READ = 64  # samples that are read together


@dataclass(frozen=True, eq=False)
class Plan:
    """What an export will write.

    Attributes:
        source: the samples.
        format: of the files.
        geometry: where voxels lie.
        writer: writes them.
        settings: what a resumed export compares.
        remarks: what a user should know, a sentence each.
    """

    source: SyntheticSource
    format: Format
    geometry: Geometry
    writer: Writer
    settings: dict[str, Any]
    remarks: list[str]


def export_samples(
    source: SyntheticSource,
    out: str | os.PathLike[str],
    format: Format,  # noqa: A002 - the word of the command line, of Pillow and of pandas
    *,
    geometry: Geometry | None = None,
    bits: Literal[8, 16] = 8,
    modality: Modality = "OT",
    value_range: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes every sample of a source as NIfTI, DICOM, PNG, Parquet, or an image folder for Hugging Face `datasets`.

    Stop it at any moment: the same call goes on. Files appear whole or not at all, and are named by the number of their
    sample. With them come ``samples.csv`` (id, seed and scalars of each), a data card, and ``export.json``. Nothing of
    a patient enters any file.

    Args:
        source: a `ShardSource`, `torchgenaug.trust.load_kept(...)`, ….
        out: folder; a new one, or one that holds a part of this very export.
        format: ``"nifti"`` (values as they are), ``"dicom"`` (16 bits with rescale, Synthetic Data (0008,001C) = YES,
            UIDs of its own), ``"png"`` (folders that `torchgenaug fit` reads), ``"parquet"`` and ``"imagefolder"`` (for
            ``datasets.load_dataset``; volumes as NIfTI within Parquet).
        geometry: affine or spacing; None: voxels of 1 mm.
        bits: of pictures.
        modality: of DICOM: ``"CT"`` means that values are HU; readers ignore where ``"OT"`` slices lie.
        value_range: intensities that whole numbers cover (pictures, DICOM); None: the range that each field states.
        progress: called after each group of samples.

    Returns:
        The folder.

    Raises:
        ConfigurationError: images that the format cannot hold, with the one that can; a folder of something else.
        StateMismatchError: the folder holds another export; the differences are listed.
        MissingExtraError: the package that writes the format is not installed.

    Example:
        >>> import tempfile
        >>> from torchgenaug import SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
        >>> source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 3)
        >>> folder = export_samples(source, tempfile.mkdtemp(), "nifti", geometry=Geometry(spacing_mm=(0.5, 0.5)))
        >>> sorted(path.name for path in (folder / "images").iterdir())
        ['0000000.nii.gz', '0000001.nii.gz', '0000002.nii.gz']
    """
    plan = plan_export(source, format, geometry=geometry, bits=bits, modality=modality, value_range=value_range)
    return write_export(plan, out, progress)


def write_export(plan: Plan, out: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """`export_samples` of a plan that was looked at before."""
    folder = make_folder(Path(out))
    with folder_held(folder) as alone:
        if not alone:
            raise ConfigurationError(
                f"`out` must be a folder that no other export writes into, got {str(folder)!r}, which is in use. "
                "Nothing was written. Wait for the other one, or give another folder."
            )
        return _write(plan, folder, progress)


def _write(plan: Plan, folder: Path, progress: Progress | None) -> Path:
    source, names = plan.source, _names(plan.source)
    _adopt(plan, folder)
    scratch = folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    total = len(source)
    for start in range(0, total, plan.writer.group):
        group = range(start, min(start + plan.writer.group, total))
        missing = [each for each in group if not _is_written(plan.writer, each, names[each], folder)]
        if missing:
            plan.writer.write(list(_samples(plan, missing, names)), scratch, folder)
        if progress is not None:
            progress(group.stop, total)
    if plan.format != "parquet":
        files = [plan.writer.targets(each, names[each]) for each in range(total)]
        for_datasets = plan.format == "imagefolder"
        rows = sample_rows(source, range(total))
        write_tables(rows, files, folder, class_names=class_names_of(source), for_datasets=for_datasets)
    write_card(folder, source, plan.settings, plan.remarks)
    shutil.rmtree(scratch, ignore_errors=True)
    clipped = getattr(plan.writer, "clipped", 0)
    if clipped:
        warnings.warn(
            f"{clipped:,} values lay outside of `value_range` and became its ends. Export into another folder with a "
            "wider one to keep them.",
            IntensityMismatchWarning,
            stacklevel=3,
        )
    return folder


def write_first(plan: Plan, count: int, out: Path) -> tuple[int, int]:
    """Writes the first samples of a plan into an empty folder; returns how many files, and how many bytes they take."""
    plan.writer.write(list(_samples(plan, range(count), _names(plan.source))), out, out)
    files = [path for path in out.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


def plan_export(
    source: SyntheticSource,
    format: Format,  # noqa: A002
    *,
    geometry: Geometry | None = None,
    bits: Literal[8, 16] = 8,
    modality: Modality = "OT",
    value_range: tuple[float, float] | None = None,
) -> Plan:
    """Checks what `export_samples` would do, with the same arguments, and writes nothing."""
    if format not in get_args(Format):
        raise ConfigurationError(f"`format` must be one of {', '.join(get_args(Format))}, got {format!r}.")
    if bits not in (8, 16):
        raise ConfigurationError(f"`bits` must be 8 or 16, got {bits!r}.")
    check_unchanging(source)
    geometry = geometry or Geometry()
    if not isinstance(geometry, Geometry):
        raise ConfigurationError(
            f"`geometry` must be a Geometry, got {geometry!r}. For example Geometry(affine=affine)."
        )
    if value_range is not None and finite_range(value_range) is None:
        raise ConfigurationError(
            f"`value_range` must be two finite numbers, low < high, got {value_range!r}. They become black and white. "
            "For example value_range=(-1000, 2000)."
        )
    fields = image_fields(source.fields)
    if not fields or len({spec.shape[1:] for spec in fields.values()}) > 1:
        shapes = {name: spec.shape for name, spec in fields.items()}
        raise ConfigurationError(
            f"`source` must hold images of one size, got {shapes}. There is nothing that could be exported together."
        )
    check_names(source.fields)
    spatial = next(iter(fields.values())).shape[1:]
    settings: dict[str, Any] = {
        "format": format,
        "sequence": source.fingerprint,
        "samples": len(source),
        "ids_sha256": hashlib.sha256(source.ids(np.arange(len(source))).astype("<i8").tobytes()).hexdigest(),
        "geometry": geometry.to_json(),
    }
    upright = geometry.starts_with_x(len(spatial))
    writer: Writer
    if format == "nifti":
        writer = NiftiWriter(fields)
    elif format == "dicom":
        writer = DicomWriter(fields, modality, value_range, json.dumps(settings, sort_keys=True))
    elif format == "parquet":
        pictures = None if len(spatial) == 3 else PictureWriter(fields, bits, value_range, upright)
        writer = ParquetWriter(fields, scalar_fields(source.fields), len(source), class_names_of(source), pictures)
    else:
        writer = PictureWriter(fields, bits, value_range, upright, "train" if format == "imagefolder" else "")
    settings |= writer.settings()
    plan = Plan(source, format, geometry, writer, settings, remarks_on(format, writer, geometry, modality, spatial))
    next(_samples(plan, [0], _names(source)))  # a parent or a spacing that is missing is found now
    return plan


def _samples(plan: Plan, positions: Any, names: list[str]) -> Iterator[ExportedSample]:
    fields = image_fields(plan.source.fields)
    spatial = next(iter(fields.values())).shape[1:]
    places = list(positions)
    for first in range(0, len(places), _READ):
        some = places[first : first + _READ]
        batch = plan.source.read(np.asarray(some, np.int64))
        for row, (position, scalars) in enumerate(zip(some, sample_rows(plan.source, some), strict=True)):
            images = {name: _array(batch[name][row]) for name in fields}
            parent = scalars.get("parent")
            affine = plan.geometry.of(spatial, None if parent is None else int(parent))
            yield ExportedSample(position, names[position], images, scalars, affine)


def _array(tensor: Any) -> Any:
    if str(tensor.dtype) in ("torch.bfloat16", "torch.float16"):
        tensor = tensor.float()
    return tensor.cpu().numpy()


def _names(source: SyntheticSource) -> list[str]:
    """Of the files of each sample: its id in the sequence, or its position where several sequences are joined."""
    ids = source.ids(np.arange(len(source))).tolist()
    if len(set(ids)) < len(ids):
        ids = list(range(len(ids)))
    width = max(7, len(str(max(ids))))
    return [f"{number:0{width}d}" for number in ids]


def _is_written(writer: Writer, position: int, name: str, folder: Path) -> bool:
    # A file without bytes is what a power cut leaves.
    places = (folder / path for path in writer.targets(position, name).values())
    return all(each.exists() and each.stat().st_size > 0 for each in places)


def _adopt(plan: Plan, folder: Path) -> None:
    """Writes the settings into a new folder, or compares those of a folder that holds an export."""
    path = folder / EXPORT_NAME
    settings = json.loads(json.dumps(plan.settings))
    if path.exists():
        try:
            known = read_entries(path)
        except (OSError, ValueError) as error:
            raise StateMismatchError(
                f"{path} must hold the settings of an export, got {error}. Nothing was written. Give another folder."
            ) from error
        differences = [
            f"{key}: {known.get(key)!r} there, {settings.get(key)!r} here"
            for key in sorted({*known, *settings})
            if known.get(key) != settings.get(key)
        ]
        if differences:
            raise StateMismatchError(
                f"`out` must be a new folder, or hold a part of this export, got {str(folder)!r} of another one: "
                f"{'; '.join(differences)}. Nothing was written. Give another folder."
            )
        return
    if any(folder.iterdir()):
        raise ConfigurationError(
            f"`out` must be a new or empty folder, got {str(folder)!r} with other files in it. Nothing was written. "
            "Give another folder."
        )
    draft = folder / f".{EXPORT_NAME}.part"
    draft.write_text(json.dumps(with_checksum(plan.settings), indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


__all__ = ["EXPORT_NAME", "Format", "Plan", "Progress", "export_samples", "plan_export", "write_export", "write_first"]
