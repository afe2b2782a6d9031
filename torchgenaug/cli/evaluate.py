"""``torchgenaug evaluate``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchgenaug.cli.numbers import whole_numbers
from torchgenaug.cli.options import AsJson, FoldersAre, Images, Masks, SpacingMm, Table, Volumes, reading_options
from torchgenaug.local_paths import check_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from torchgenaug.trust.report.evaluation import Evaluation

FAILED = 3
"""Exit status where the verdict is one of ``--fail-on``."""


class Verdict(StrEnum):
    """What ``--fail-on`` accepts."""

    caution = "caution"
    cannot_judge = "cannot judge"
    do_not_use = "do not use"


def evaluate(
    synthetic: Annotated[
        str,
        typer.Argument(
            help="A shard folder, a saved synthesizer, a folder of images, or package.module:factory.",
            show_default=False,
        ),
    ],
    real: Annotated[str, typer.Option(help="The data that the model was fitted on, as for fit.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.", show_default=False)],
    held_out: Annotated[
        str | None,
        typer.Option(
            help="Real data that it was not fitted on; default: what of --real the model says it has not seen.",
            show_default=False,
        ),
    ] = None,
    held_out_synthetic: Annotated[
        str | None,
        typer.Option(
            help="Images that the model made from masks or source images of the held-out data: how much likeness the "
            "condition explains.",
            show_default=False,
        ),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            help="radiomics, efficientnet or package.module:factory; may be repeated. Default: radiomics.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Size to read folders at, as in fit: 64, or one per axis: 64,64,32.", show_default=False),
    ] = None,
    images: Images = None,
    masks: Masks = None,
    folders: FoldersAre = None,
    table: Table = None,
    volumes: Volumes = False,
    spacing: SpacingMm = None,
    count: Annotated[int, typer.Option(min=2, help="Images that a synthesizer generates.")] = 1000,
    most: Annotated[int, typer.Option(min=2, help="Images of each set that measures look at.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="Of generated images and of random halves.")] = 0,
    fail_on: Annotated[
        list[Verdict] | None,
        typer.Option(help="Exit status 3 for this very verdict; may be repeated.", show_default=False),
    ] = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Write salted hashes in place of names of samples and patients.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judges synthetic images: are they realistic, varied, copies of patients? Writes a report with a verdict.

    Examples:

        torchgenaug evaluate shards --real data --held-out other_data --out report

        torchgenaug evaluate my_model --real digits --out report --count 1000

        torchgenaug evaluate my_model --real scans --images '*_t1.png' --masks none --out report

        torchgenaug evaluate images --real data --size 64 --out report --fail-on "do not use"

        torchgenaug evaluate shards --real data --out report --json
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from torchgenaug.cli.evaluate_data import load_features, load_real, load_synthetic, put_into_card
    from torchgenaug.cli.output import open_console
    from torchgenaug.progress import minute_lines
    from torchgenaug.trust.report.evaluate import NUM_STEPS
    from torchgenaug.trust.report.evaluate import evaluate as judge_images

    check_place(out)
    console = open_console(stderr=as_json)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading", total=NUM_STEPS + 2)
        line = minute_lines("evaluated", "steps")
        extractors = load_features(features or ["radiomics"])
        side = whole_numbers("--size", ",".join(size) if size else None)
        reading = reading_options(images, masks, folders, table, volumes, spacing)
        subfolders = reading.get("folders")
        made = load_synthetic(synthetic, real, size=side, count=count, seed=seed, folders=subfolders)
        train, others = load_real(real, held_out, made, size=side, model=Path(synthetic), reading=reading)

        def tell(step: str) -> None:
            progress.update(task, description=step, advance=1)
            if not console.is_terminal:
                line(int(progress.tasks[0].completed), NUM_STEPS + 2)

        innocent = None
        if held_out_synthetic is not None:
            innocent = load_synthetic(held_out_synthetic, real, size=side, count=count, seed=seed, folders=subfolders)
        evaluation = judge_images(
            made,
            train,
            others,
            held_out_synthetic=innocent,
            features=extractors,
            most=most,
            seed=seed,
            progress=tell,
        )
        evaluation = evaluation.anonymised() if anonymous else evaluation
        tell("drawing")
        page = evaluation.save(out)
    noted = put_into_card(synthetic, made, evaluation.to_json())
    if as_json:
        print(json.dumps({**evaluation.to_json(), "page": str(page)}, indent=1, allow_nan=False))
    else:
        _print(evaluation, console)
        console.print(f"Look at {page}. {noted}".rstrip(), markup=False, soft_wrap=True)
    if evaluation.verdict in (fail_on or []):
        raise typer.Exit(FAILED)


def trilemma_line(trilemma: Mapping[str, float | None]) -> str:
    """Quality, coverage and speed in one line."""
    parts = [
        f"{name} {share:.0%} of real" for name in ("quality", "coverage") if (share := trilemma.get(name)) is not None
    ]
    speed = trilemma.get("samples_per_s")
    return ", ".join([*parts, f"{speed:.3g} samples/s on this machine" if speed else "speed not measured"])


def _print(evaluation: Evaluation, console: Console) -> None:
    from torchgenaug.cli.text import printable

    for line in (*map(str, evaluation.measures.values()), trilemma_line(evaluation.trilemma), *evaluation.notes):
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    console.print(f"Verdict: {evaluation.verdict}", style="bold", highlight=False)
    for reason in evaluation.reasons:
        console.print(printable(f"  {reason}"), markup=False, highlight=False, soft_wrap=True)
