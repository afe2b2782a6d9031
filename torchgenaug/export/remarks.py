"""What was chosen, converted or is not known about an export: sentences for the terminal and the card."""

from __future__ import annotations

from torchgenaug.export.dicom import Modality
from torchgenaug.export.geometry import Geometry
from torchgenaug.export.parquet import ParquetWriter
from torchgenaug.export.sample import Writer


def remarks_on(
    format: str,  # noqa: A002
    writer: Writer,
    geometry: Geometry,
    modality: Modality,
    spatial: tuple[int, ...],
) -> list[str]:
    """A sentence each.

    Args:
        format: of the files.
        writer: of the files.
        geometry: where voxels lie.
        modality: of DICOM.
        spatial: size of the images.
    """
    found = []
    pictures = writer.pictures if isinstance(writer, ParquetWriter) else writer
    for name, levels in getattr(pictures, "levels", {}).items():
        high = levels.low + levels.step * levels.highest
        found.append(
            f"Intensities of `{name}` from {levels.low:g} to {high:g} are {levels.highest + 1:,} levels, so that a "
            f"value is off by at most {levels.step / 2:.3g}."
        )
    holds_place = format in ("nifti", "dicom") or (format == "parquet" and len(spatial) == 3)
    if holds_place and not geometry.is_stated:
        found.append("Neither affine nor spacing is known: voxels are 1 mm apart and centred on the origin.")
    elif holds_place and geometry.spacing_mm is not None:
        found.append("Only the spacing is known: images are centred on the origin, along the axes of the body.")
    if not holds_place and geometry.is_stated:
        found.append("Pictures hold neither affine nor spacing: export.json states what was given.")
    if format == "dicom" and modality == "OT":
        found.append(
            "Slices of modality OT are secondary captures: many programs ignore where they lie. See --modality."
        )
    return found
