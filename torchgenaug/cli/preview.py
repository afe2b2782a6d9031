"""``torchgenaug preview``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchgenaug.cli.options import FoldersAre, Images, Masks, SpacingMm, Table, Volumes, check_read, reading_options
from torchgenaug.local_paths import make_folder

if TYPE_CHECKING:
    from torchgenaug import FieldSpec, ShardSource


def preview(
    path: Annotated[Path, typer.Argument(help="A shard folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("preview.png"),
    count: Annotated[int, typer.Option(min=1, help="How many samples, evenly spaced over the classes.")] = 16,
    real: Annotated[
        str | None,
        typer.Option(help="Real data to compare with, as for fit: each synthetic image follows a real one."),
    ] = None,
    images: Images = None,
    masks: Masks = None,
    folders: FoldersAre = None,
    table: Table = None,
    volumes: Volumes = False,
    spacing: SpacingMm = None,
    rotate: Annotated[int, typer.Option(help="Counter-clockwise quarter turns; 1 turns (x, y) arrays upright.")] = 0,
) -> None:
    """Draws a contact sheet of a shard folder, sorted by class.

    Black and white are the 1st and 99th percentile of the drawn intensities.

    Examples:

        torchgenaug preview shards --out preview.png --count 25

        torchgenaug preview shards --real my_images/

        torchgenaug preview shards --real scans/ --images '*_t1.png' --masks none
    """
    from torchgenaug import ShardSource
    from torchgenaug.cli.output import say

    reading = reading_options(images, masks, folders, table, volumes, spacing)
    check_read(reading, "--real", real)
    make_folder(out.absolute().parent)
    say(f"Look at {draw(ShardSource(path), out, count, rotate, real=real, reading=reading)}.")


def draw(
    source: ShardSource,
    path: Path,
    count: int,
    rotate: int = 0,
    *,
    real: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a contact sheet of `count` samples of a source, sorted by class, with their ids and seeds.

    Args:
        source: what to draw.
        path: of the PNG.
        count: at most so many synthetic samples, evenly spaced over the source.
        rotate: counter-clockwise quarter turns.
        real: data as in `load_data`, of which as many samples are drawn, each before a synthetic one of its rank.
        reading: further arguments of `load_data` for these.
    """
    from torchgenaug.pictures import contact_sheet

    labels = source.column("label").tolist() if "label" in source.fields else [0] * len(source)
    samples: list[Mapping[str, Any]] = _synthetic(source, _spread(labels, count))
    fields, marks, columns = _by_percentiles(source.fields), None, None
    names = class_names(source.manifest.trained_on)
    if real is not None:
        from torchgenaug.cli.real_data import load_again

        data = load_again(real, source.manifest.trained_on, source.fields["image"].shape[1:], reading)
        known = data.labels()
        rows = _spread([0] * len(data) if known is None else known.tolist(), len(samples))
        pairs = list(zip((data.samples[row] for row in rows), samples, strict=False))
        samples = [sample for pair in pairs for sample in pair]
        marks, names = ["real", "synthetic"] * len(pairs), names or data.class_names
        columns = 2 * max(1, round((len(pairs) / 2) ** 0.5))
    return contact_sheet(samples, fields, path, marks=marks, columns=columns, rotate=rotate, class_names=names)


def class_names(trained_on: Any) -> Sequence[str]:
    """The names of the classes that a record of training data holds; empty where there are none."""
    names = trained_on.get("class_names", ()) if isinstance(trained_on, Mapping) else ()
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) else ()


def _synthetic(source: ShardSource, positions: Sequence[int]) -> list[Mapping[str, Any]]:
    import numpy as np

    rows = np.array(positions, np.int64)
    batch, ids, seeds = source.read(rows), source.ids(rows), source.seeds(rows)
    return [
        {"id": int(ids[row]), "seed": int(seeds[row])} | {name: values[row] for name, values in batch.items()}
        for row in range(len(rows))
    ]


def _spread(labels: Sequence[int], count: int) -> list[int]:
    """At most `count` positions, sorted by class, evenly spaced within that order."""
    import numpy as np

    order = np.argsort(np.asarray(labels), kind="stable")
    picked: list[int] = order[np.unique(np.linspace(0, len(order) - 1, count).astype(np.int64))].tolist()
    return picked


def _by_percentiles(fields: Mapping[str, FieldSpec]) -> dict[str, FieldSpec]:
    """The same fields without the ranges of images, so that the sheet takes percentiles: ranges may be far wider."""
    from torchgenaug import FieldSpec

    return {
        name: FieldSpec(spec.shape, spec.dtype, kind=spec.kind) if spec.kind == "intensity" else spec
        for name, spec in fields.items()
    }
