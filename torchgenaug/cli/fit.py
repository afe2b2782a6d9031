"""``torchgenaug fit``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchgenaug.cli.choices import CONDITIONS, Condition, Precision, SplitBy
from torchgenaug.cli.families import check_order, show_families
from torchgenaug.cli.numbers import class_limits, whole_numbers
from torchgenaug.cli.options import FoldersAre, Images, Masks, SpacingMm, Table, Volumes, reading_options
from torchgenaug.cli.output import say
from torchgenaug.cli.panels import FIT, in_panels

if TYPE_CHECKING:
    from torchgenaug.recipes import FitResult, Options, TrainingData


@in_panels(FIT)
def fit(
    family: Annotated[str, typer.Argument(help="What to train; `torchgenaug fit list` explains each.")],
    data: Annotated[
        str | None,
        typer.Argument(
            help="A folder of images or volumes, package.module:factory, or an embedded set: digits, brain, nuclei, …",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the synthesizer; a run that stopped there goes on.")
    ] = None,
    condition: Annotated[Condition, typer.Option(help="What the model is conditioned on.")] = Condition.none,
    with_mask: Annotated[bool, typer.Option("--with-mask", help="Make the mask together with the image.")] = False,
    size: Annotated[
        str | None, typer.Option(help="Resize images to this many pixels: one number, or one per axis: 64,64,32.")
    ] = None,
    spacing: SpacingMm = None,
    images: Images = None,
    masks: Masks = None,
    folders: FoldersAre = None,
    table: Table = None,
    volumes: Volumes = False,
    limit: Annotated[
        str | None,
        typer.Option(help="Train on so many samples only (of each class): 50; or of single classes: cat=5,dog=20."),
    ] = None,
    labelled_only: Annotated[
        bool, typer.Option("--labelled-only", help="Leave out images whose class is not known.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; default: the family's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples per step; default: the family's.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Channels of the widest layers.")] = None,
    latent_dim: Annotated[int | None, typer.Option(min=1, help="Length of latents.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, help="Learning rate.")] = None,
    sampling_steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps of a sample.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(min=0.0, help="Classifier-free guidance; 1: none.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Folder of the trained ddpm or ldm that progressive makes fast.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Folder of a trained model of this family to train further.")
    ] = None,
    chosen: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of this family, name=value; `torchgenaug fit list NAME` shows them."),
    ] = None,
    augment: Annotated[bool, typer.Option(help="Mild random affine transforms of the training images.")] = True,
    exchange: Annotated[bool, typer.Option("--exchange", help="Translate the other way: image to source.")] = False,
    balance: Annotated[bool, typer.Option("--balance", help="Show every class equally often.")] = False,
    precision: Annotated[Precision, typer.Option(help="Mixed precision.")] = Precision.no,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches per step.")] = 1,
    reports: Annotated[int, typer.Option(min=1, help="How often to draw samples and judge them.")] = 10,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many reports without progress; keep the best model.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.0, help="End within this time with a usable model.")
    ] = None,
    split: Annotated[
        SplitBy | None,
        typer.Option(help="patients: hold whole patients out, the same share of every class; saved in OUT/split.json."),
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="With --split: fraction of the patients that are held out. Default: 0.2.")
    ] = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Write salted hashes in place of the names of samples and patients.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and noise.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a CPU run; default: torch's own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu; default: a GPU if there is one.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again, though OUT holds a run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With `fit list`: print one JSON object.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the data (with a picture) and the networks, time three steps, do no more."
        ),
    ] = False,
) -> None:
    """Trains a generative model on your images; the result is a synthesizer for `render` and the pool.

    Interrupt it at any moment (Ctrl-C: exit status 130, SIGTERM: 143): the same command goes on. With --max-minutes it
    ends in time with a usable model: its own number of steps is shortened to what fits; --steps of yours are not, and
    the same command goes on with them. Losses, sample pictures and
    the checkpoint are in OUT/training. Several GPUs: `torchrun --nproc_per_node 4 -m torchgenaug.cli fit …`.

    Examples:

        torchgenaug fit ddpm digits --condition label --out digits-ddpm

        torchgenaug fit ddpm slices/ --with-mask --size 64 --out slices-ddpm --dry-run

        torchgenaug fit ddpm volumes/ --spacing 1,1,3 --size 64,64,32 --images '*_t1.nii.gz' --out volumes-ddpm

        torchgenaug fit dcgan mypackage.data:train_set --condition label --limit 50 --patience 3 --out gan

        torchgenaug fit spade scans/ --condition mask --split patients --anonymous --out scans-spade

        torchgenaug fit progressive digits --teacher digits-ddpm --sampling-steps 4 --out digits-fast

        torchgenaug fit ddpm few-patients/ --from many-volunteers-ddpm --steps 500 --out few-patients-ddpm

        torchgenaug fit list

        torchgenaug fit list stylegan2
    """
    from torchgenaug.recipes.build import describe_family, resolve_condition
    from torchgenaug.recipes.options import Options
    from torchgenaug.recipes.settings import parse_settings

    if family == "list":
        show_families(as_json, data)
        return
    check_order(family, data)
    if data is None:
        raise typer.BadParameter("images to train on are needed, such as a folder.", param_hint="DATA")
    if held_out is not None and split is None:
        raise typer.BadParameter("needs --split patients.", param_hint="--held-out")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    describe_family(family)  # a misspelt name is found before the data are read
    from torchgenaug.recipes import load_data
    from torchgenaug.recipes.data.embedded import LOADERS
    from torchgenaug.recipes.data.patient_split import anonymised, split_patients, write_split

    sides = whole_numbers("--size", size)
    train = load_data(data, size=sides, **reading_options(images, masks, folders, table, volumes, spacing))
    others = load_data(data, split="held_out", size=sides) if data in LOADERS else None
    if split is not None:
        train, others = split_patients(train, 0.2 if held_out is None else held_out, seed)
        say(f"{len(set(train.patients))} patients to train on, {len(set(others.patients))} held out.")
    if anonymous:
        train, others = anonymised(train), None if others is None else anonymised(others)
        if train.class_names:
            say(f"Names of classes are written as they are: {', '.join(train.class_names)}.")
    if exchange:
        train, others = train.exchanged(), None if others is None else others.exchanged()
    parts = train, others
    if labelled_only:
        train, others = train.labelled(), None if others is None else others.labelled()
    if limit is not None:
        train = train.limit(class_limits("--limit", limit, train), seed)
    recipe = Options(
        condition=CONDITIONS[condition],
        with_mask=with_mask,
        steps=steps,
        batch_size=batch_size,
        width=width,
        latent_dim=latent_dim,
        learning_rate=learning_rate,
        sampling_steps=sampling_steps,
        guidance_scale=guidance_scale,
        teacher=None if teacher is None else str(teacher),
        start=None if start is None else str(start),
        settings=parse_settings(family, describe_family(family).settings, chosen or ()),
    )
    recipe = resolve_condition(family, train, recipe)
    say(repr(train), *train.remarks)
    from torchgenaug.recipes import FitOptions
    from torchgenaug.recipes import fit as run_fit

    options = FitOptions(
        seed=seed,
        precision=precision.value,
        accumulate=accumulate,
        augment=augment,
        balance=balance,
        reports=reports,
        patience=patience,
        max_minutes=max_minutes,
        workers=workers,
    )
    if dry_run:
        from torchgenaug.cli.dry_run import dry_run as run_dry

        picture = Path("dry-run.png") if out is None else out.with_name(f"{out.name}-dry-run.png")
        say(*run_dry(family, train, recipe, options, device=device, picture=picture))
        return
    if out is None:
        raise typer.BadParameter("a folder for the synthesizer is needed.", param_hint="--out")
    if split is not None and parts[1] is not None:
        write_split(out, parts[0], parts[1], 0.2 if held_out is None else held_out, seed, fresh=fresh)
    result = run_fit(
        family,
        train,
        out,
        held_out=others,
        recipe=recipe,
        options=options,
        device=device,
        fresh=fresh,
        rotate=train.quarter_turns,
    )
    _summary(family, result, train, recipe, out)
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)


def _summary(family: str, result: FitResult, train: TrainingData, recipe: Options, out: Path) -> None:
    from torchgenaug.recipes.pairs import pairs_text
    from torchgenaug.synthesizers import synthesizer_sha256

    state = "Finished" if result.finished else "Stopped: the same command goes on"
    lines = [f"{state} after {result.steps} steps, {result.seconds / 60:.1f} min in this run."]
    if result.synthesizer is not None:
        lines += [
            f"Distance of {result.num_judged} samples to as many held-out images {result.distance:.3f}: real training "
            f"images {result.floor:.3f}, noise {result.noise:.3f} (sliced Wasserstein). It compares local structure "
            "and contrast; whether anatomy, labels and masks are right it cannot see, and few images make it unsure.",
            *([text] if (text := pairs_text(result.pairs)) else []),
            _copies(result),
            f"Fingerprint {result.synthesizer.fingerprint}",
            f"Pin it from outside: load_synthesizer({str(out)!r}, sha256={synthesizer_sha256(out)!r})",
            f"Look at {out}/training/samples and {out}/training/losses.png, then:",
            f"  {_render_command(family, train, recipe, out)}",
        ]
    say(*lines)


def _copies(result: FitResult) -> str:
    if math.isnan(result.copied):
        if result.num_judged == 1:
            return (
                "Copies of training images were not looked for: with one held-out image there is no other that its "
                "distance to training images could be compared with. Add data."
            )
        return (
            "Copies of training images were not looked for: held-out images lie nearer to each other than to training "
            "images (neighbouring slices, one patient), so that even noise would count as a copy."
        )
    return (
        f"Samples that count as copies of training images: {result.copied:.0%}; by chance "
        f"{result.copied_reference:.0%}."
    )


def _render_command(family: str, train: TrainingData, recipe: Options, out: Path) -> str:
    from torchgenaug.recipes.build import describe_family

    command = f"torchgenaug render {out} --out {out}-shards --count {max(32, len(train))}"
    source = describe_family(family).conditions_by
    if recipe.condition in ("mask", "source"):
        source = source or f"RealFields(your data set, ['{recipe.condition}'])"
    return f"{command} --conditions package.module:factory  # {source}" if source else command
