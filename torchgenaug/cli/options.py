"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import typer

from torchgenaug.cli.choices import Folders
from torchgenaug.cli.numbers import numbers

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]

# How a folder of real data is read, where its names do not show it; as in `load_data`.
SpacingMm: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Resample a folder's images to this spacing in mm first: 1 or 1,1,1.", show_default=False),
]
Images: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Which files of a folder are images, where names do not show it: 'scans/*.png'.", show_default=False
    ),
]
Masks: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Which files of a folder are masks: '*_mask.png'; none: there are none.", show_default=False),
]
FoldersAre: TypeAlias = Annotated[
    Folders | None,
    typer.Option(help="What the subfolders of a folder are, where names do not show it.", show_default=False),
]
Table: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Table of the classes of a folder: FILE, FILE:COLUMN, FILE:COLUMN=VALUE, none.", show_default=False
    ),
]
Volumes: TypeAlias = Annotated[
    bool, typer.Option("--volumes", help="Slices of each DICOM series are a volume, and arrays of three axes are.")
]


def reading_options(
    images: str | None,
    masks: str | None,
    folders: Folders | None,
    table: str | None,
    volumes: bool,
    spacing: str | None,
) -> Mapping[str, Any]:
    """The arguments of `load_data` that these options state; those that are left out are not in it."""
    given = {
        "images": images,
        "masks": masks,
        "folders": None if folders is None else folders.value,
        "table": table,
        "volumes": volumes or None,
        "spacing": numbers("--spacing", spacing),
    }
    return {name: value for name, value in given.items() if value is not None}


def check_read(given: Mapping[str, Any], option: str, read: str | None) -> None:
    """Refuses options of reading where nothing is read.

    Args:
        given: of `reading_options`.
        option: that names real data, ``--real``.
        read: what the user gave for it.
    """
    if given and read is None:
        raise typer.BadParameter(
            f"needs {option}: it states how real data are read.", param_hint=f"--{next(iter(given))}"
        )
