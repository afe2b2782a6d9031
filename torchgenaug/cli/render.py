"""``torchgenaug render``."""

from __future__ import annotations

import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from torchgenaug.cli.options import FoldersAre, Images, Masks, SpacingMm, Table, Volumes, check_read, reading_options
from torchgenaug.cli.output import counted, num_bytes, open_console, stoppable
from torchgenaug.cli.panels import RENDER, in_panels
from torchgenaug.cli.render_cost import state_cost
from torchgenaug.cli.text import printable
from torchgenaug.progress import minute_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from torchgenaug.shards.render.jobs import RenderSettings


class Compression(StrEnum):
    """What ``--compression`` accepts."""

    none = "none"
    lz4 = "lz4"
    zstd = "zstd"
    gzip = "gzip"


class StorageDtype(StrEnum):
    """What ``--dtype`` accepts."""

    own = "own"
    float32 = "float32"
    float16 = "float16"
    uint16 = "uint16"
    uint8 = "uint8"


@in_panels(RENDER)
def render(
    context: typer.Context,
    synthesizer: Annotated[
        str,
        typer.Argument(
            help="A saved folder (ours, or a diffusers pipeline's), or package.module:factory.", show_default=False
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Local folder for the shards (no URL); one with a part of this render is completed.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per call of the model; part of the plan.")] = 32,
    shard_size: Annotated[int, typer.Option(min=1, help="Samples per file.")] = 1024,
    dtype: Annotated[StorageDtype, typer.Option(help="Stored dtype of images.")] = StorageDtype.own,
    compression: Annotated[Compression, typer.Option(help="none reads fastest, zstd is smallest.")] = Compression.none,
    seed: Annotated[int, typer.Option(min=0, help="Base seed of the sequence.")] = 0,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Balanced class labels; default: as the model says.", show_default=False)
    ] = None,
    class_weights: Annotated[
        str | None, typer.Option(help="Shares of the classes, such as 0.5,0.3,0.2.", show_default=False)
    ] = None,
    conditions: Annotated[
        str | None,
        typer.Option(help="package.module:factory of other conditions, such as real masks.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Sampling steps of a diffusion model; default: as saved, 50 for diffusers'.", show_default=False
        ),
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(help="Of stylegan2: 1 keeps all variety, 0.7 is usual.", show_default=False)
    ] = None,
    value_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Intensities that -1 and 1 of a diffusers pipeline stand for; default: 0 1.",
            show_default=False,
        ),
    ] = None,
    no_copies_of: Annotated[
        str | None,
        typer.Option(help="The data that the model was fitted on: copies are generated again.", show_default=False),
    ] = None,
    images: Images = None,
    masks: Masks = None,
    folders: FoldersAre = None,
    table: Table = None,
    volumes: Volumes = False,
    spacing: SpacingMm = None,
    keep: Annotated[
        str | None,
        typer.Option(help="package.module:factory of a rule: writes which samples it keeps.", show_default=False),
    ] = None,
    keep_best: Annotated[
        float | None, typer.Option(help="With --keep: the fraction with the highest scores.", show_default=False)
    ] = None,
    keep_above: Annotated[
        float | None, typer.Option(help="With --keep: scores of at least this.", show_default=False)
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of torch; a resume keeps its own.", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda:0; default: a GPU if there is one.", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that a batch may take before the model counts as hung.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Render one batch, draw it, and state time and disk of the whole job.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Check what is there, and make damaged shards again.")
    ] = False,
    extend: Annotated[
        bool, typer.Option("--extend", help="Add to a render of fewer samples, up to --count in all.")
    ] = False,
    list_jobs: Annotated[
        bool, typer.Option("--list-jobs", help="Render nothing; print the missing shards, such as 0-3,7.")
    ] = False,
    job: Annotated[
        int | None, typer.Option(min=0, help="Render this shard alone; see --list-jobs.", show_default=False)
    ] = None,
) -> None:
    """Renders synthetic samples into HDF5 shards. Stop it at any moment; the same command goes on.

    Under torchrun or accelerate launch the processes share the shards out, each on a GPU of its own; the bytes are the
    same. They share nothing but the folder, so they may run on several machines. To train from object storage, copy the
    finished folder there: ShardSource reads URLs, render writes to local folders only.

    Examples:

        torchgenaug render my_model --out shards --count 10000 --dry-run

        torchgenaug render my_model --out shards --count 10000 --dtype float16 --compression lz4

        torchgenaug render my_pipeline --out shards --count 10000 --steps 25 --value-range -1000 2000

        torchgenaug render my_package.models:make_generator --out shards --count 500 --classes 4

        torchgenaug render my_package.models:make_generator --out shards --count 500 --conditions my_package.data:masks

        torchgenaug render my_model --out shards --count 20000 --extend

        torchgenaug render my_model --out shards --count 10000 --no-copies-of data

        torchgenaug render my_model --out shards --count 10000 --keep my_package.rules:confidence --keep-best 0.5

        torchrun --nproc_per_node 4 -m torchgenaug.cli render my_model --out shards --count 10000

        accelerate launch --num_processes 4 -m torchgenaug.cli render my_model --out shards --count 10000

        sbatch --array=$(torchgenaug render my_model --out shards --count 10000 --list-jobs) render_array.sh
    """
    from torchgenaug.shards.render.presence import Presence, Ranks

    reading = reading_options(images, masks, folders, table, volumes, spacing)
    check_read(reading, "--no-copies-of", no_copies_of)
    ranks = Ranks.from_environment()
    if not (dry_run or list_jobs or job is not None):
        # Before anything is loaded, so that the others miss a rank that is killed while it loads.
        with suppress(OSError):  # the render itself says what is wrong with the folder
            context.with_resource(Presence(out, ranks))
    import torch

    from torchgenaug import render_shards, shard_jobs
    from torchgenaug.cli.filters import keep_rendered, load_rule, without_copies
    from torchgenaug.cli.jobs import print_jobs, render_one
    from torchgenaug.cli.load import DIFFUSERS_RANGE, is_diffusers_folder, load_sequence
    from torchgenaug.cli.preview import draw
    from torchgenaug.errors import ConfigurationError
    from torchgenaug.shards.card import CARD_NAME, write_card

    if repair and extend:
        raise ConfigurationError("`--extend` must be given without --repair, got both. Repair first, then extend.")
    one = list_jobs or job is not None
    if one and (repair or keep is not None or dry_run):
        raise ConfigurationError(
            "`--list-jobs` and `--job` must be given without --repair, --keep and --dry-run. Nothing was rendered. "
            "These look at the whole render: give them to the same command without --job."
        )
    if list_jobs and job is not None:
        raise ConfigurationError("`--job` must be given without --list-jobs, got both. Nothing was rendered.")
    rule = load_rule(keep, keep_best, keep_above)
    first = ranks.rank == 0  # the others keep silent
    console = open_console(quiet=not first)
    if threads is not None:
        torch.set_num_threads(threads)
    sequence = load_sequence(
        synthesizer,
        seed=seed,
        num_classes=classes,
        class_weights=class_weights,
        conditions=conditions,
        steps=steps,
        value_range=value_range,
        device=device,
        truncation=truncation,
    )
    if value_range is None and is_diffusers_folder(synthesizer):
        low, high = DIFFUSERS_RANGE
        console.print(f"Intensities: -1 and 1 of the model become {low:g} and {high:g}; set others with --value-range.")
    if no_copies_of is not None:
        sequence, remark = without_copies(sequence, no_copies_of, reading)
        console.print(printable(remark), soft_wrap=True, markup=False)
    stored = None if dtype is StorageDtype.own else dtype.value
    codec = None if compression is Compression.none else compression.value
    if dry_run and not first:
        return
    if dry_run:
        state_cost(sequence, count, batch_size, stored, codec, console)
        return
    resume: Literal["verify", "extend", True] = "verify" if repair else "extend" if extend else True
    shard_size = -(-shard_size // batch_size) * batch_size
    plan: RenderSettings = {
        "count": count,
        "batch_size": batch_size,
        "shard_size": shard_size,
        "compression": codec,
        "dtype": stored,
    }
    if one:
        jobs = shard_jobs(sequence, out, **plan, resume=resume)
        if list_jobs:
            print_jobs(jobs)
        if job is not None:
            with stoppable():
                render_one(jobs, job, -(-count // shard_size), timeout)
        return
    began = time.perf_counter()
    shown = _bar(console) if first else False
    with stoppable():
        source = render_shards(sequence, out, **plan, resume=resume, progress=shown, timeout_s=timeout)
    if not first:
        return
    size = sum(path.stat().st_size for path in out.glob("shard-*.h5"))
    picture = out / "preview.png"
    try:
        draw(source, picture, 16)
    except PermissionError:  # another user's, where only the owner may replace a file
        console.print(f"{picture} belongs to another user: it was not changed.", soft_wrap=True, markup=False)
    if not write_card(out, source.manifest):
        console.print(f"{out / CARD_NAME} is yours: it was not changed.", soft_wrap=True, markup=False)
    if rule is not None:
        console.print(keep_rendered(source, rule, keep_best, keep_above, out), soft_wrap=True, markup=False)
    shards = counted(source.manifest.num_shards, "shard")
    console.print(
        f"{counted(len(source), 'sample')}, {shards}, {num_bytes(size)} in {out} "
        f"({time.perf_counter() - began:.1f} s). Look at {picture}.",
        soft_wrap=True,
    )


def _bar(console: Console) -> Callable[[int, int, int], None]:
    """A progress bar with samples/s, time left and bytes; in a log, one line a minute."""
    if not console.is_terminal:
        line = minute_lines("rendered", "samples")
        return lambda made, total, committed: line(made, total)
    from tqdm import tqdm

    bar = tqdm(unit=" samples", desc="render", dynamic_ncols=True)

    def tell(made: int, total: int, committed: int) -> None:
        bar.total = total
        bar.set_postfix_str(num_bytes(committed), refresh=False)
        bar.update(made - bar.n)
        if made == total:
            bar.refresh()

    return tell
