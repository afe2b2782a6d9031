"""``torchgenaug export``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchgenaug.cli.output import counted, num_bytes, say, stoppable
from torchgenaug.progress import minute_lines

if TYPE_CHECKING:
    from torchgenaug.export.run import Plan

_TRIED = 4  # samples of a dry run


class Format(StrEnum):
    """What ``--format`` accepts."""

    nifti = "nifti"
    dicom = "dicom"
    png = "png"
    parquet = "parquet"
    imagefolder = "imagefolder"


class Modality(StrEnum):
    """What ``--modality`` accepts."""

    CT = "CT"
    MR = "MR"
    OT = "OT"


class FirstAxis(StrEnum):
    """What ``--first-axis`` accepts."""

    x = "x"
    row = "row"


def export(
    shards: Annotated[str, typer.Argument(help="A shard folder, or its URL.", show_default=False)],
    format: Annotated[  # noqa: A002 - the name of the option
        Format,
        typer.Option(
            help="nifti (values as they are), dicom (16 bits), png, or for Hugging Face datasets parquet, imagefolder.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="A new folder; one with a part of this export is completed.")],
    spacing: Annotated[
        str | None, typer.Option(help="Spacing of the voxels in mm: 1 or 1,1,3.", show_default=False)
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            help="A real NIfTI file: images lie where this one lies, once `fit` has brought it to their size."
        ),
    ] = None,
    parents: Annotated[
        str | None,
        typer.Option(help="Folder of the data that conditions came from: each image lies where its parent lies."),
    ] = None,
    first_axis: Annotated[
        FirstAxis | None,
        typer.Option(help="What the first axis of an image is. Default: x in volumes, rows in pictures."),
    ] = None,
    bits: Annotated[int, typer.Option(help="Of pictures: 8 or 16.")] = 8,
    modality: Annotated[Modality, typer.Option(help="Of DICOM; CT: values are HU.")] = Modality.OT,
    value_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Intensities of black and white. Default: the range of the field."),
    ] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Only the samples that `render --keep` kept.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write four samples elsewhere, and state files and disk of the whole.")
    ] = False,
) -> None:
    """Writes rendered samples as files that other programs open: ITK-SNAP, 3D Slicer, Hugging Face datasets.

    Stop it at any moment; the same command goes on. DICOM files are marked as synthetic (0008,001C), have UIDs of their
    own, and name nobody.

    Examples:

        torchgenaug export shards --format nifti --out nifti --spacing 1,1,3

        torchgenaug export shards --format nifti --out nifti --like real/ct_017.nii.gz

        torchgenaug export shards --format dicom --out dicom --modality CT --spacing 0.8,0.8,2

        torchgenaug export shards --format parquet --out hub --dry-run
    """
    from torchgenaug import ShardSource
    from torchgenaug.cli.export_geometry import read_geometry
    from torchgenaug.contracts import SyntheticSource
    from torchgenaug.errors import ConfigurationError
    from torchgenaug.export.geometry import Geometry
    from torchgenaug.export.run import plan_export, write_export
    from torchgenaug.export.sample import image_fields

    if bits not in (8, 16):
        raise ConfigurationError(f"--bits must be 8 or 16, got {bits}.")
    rendered = ShardSource(shards)
    source: SyntheticSource = rendered
    if kept:
        from torchgenaug.trust import load_kept

        source = load_kept(rendered, shards)
    spatial = next((spec.shape[1:] for spec in image_fields(source.fields).values()), ())
    geometry: Geometry = read_geometry(
        spatial,
        spacing=spacing,
        like=like,
        parents=parents,
        first_axis=None if first_axis is None else first_axis.value,
    )
    plan = plan_export(
        source,
        format.value,
        geometry=geometry,
        bits=8 if bits == 8 else 16,
        modality=modality.value,
        value_range=value_range,
    )
    say(*plan.remarks)
    if dry_run:
        _dry_run(plan)
        return
    with stoppable("Interrupted. The same command goes on."):
        write_export(plan, out, _bar())
    say(f"{counted(len(source), 'sample')} as {format.value} in {out}.")


def _dry_run(plan: Plan) -> None:
    """Writes the first samples elsewhere, and multiplies."""
    from torchgenaug.export.run import write_first

    total = len(plan.source)
    with tempfile.TemporaryDirectory(prefix="torchgenaug-export-") as folder:
        files, size = write_first(plan, min(_TRIED, total), Path(folder))
    tried = min(_TRIED, total)
    number = files * total // tried if files >= tried else -(-total // plan.writer.group)
    say(
        f"{counted(total, 'sample')}: about {counted(number, 'file')} and {num_bytes(size / tried * total)}. Nothing "
        "was written to the output folder."
    )


def _bar() -> Callable[[int, int], None]:
    """A progress bar on a terminal; in a log, one line a minute."""
    if not sys.stderr.isatty():
        return minute_lines("exported", "samples")
    from tqdm import tqdm

    bar = tqdm(unit=" samples", desc="export", dynamic_ncols=True)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show
