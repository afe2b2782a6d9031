"""``torchgenaug fit --dry-run``: shows the data and the networks, and times three training steps."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torchgenaug.errors import MissingExtraError

if TYPE_CHECKING:
    from torchgenaug.recipes import FitOptions, Options, TrainingData

_SHOWN, _TIMED = 6, 3


def dry_run(
    family: str,
    train: TrainingData,
    recipe: Options,
    options: FitOptions,
    *,
    device: str | None,
    picture: Path,
) -> list[str]:
    """Draws six samples with their masks, takes three steps as a run with these options would, and trains nothing.

    Args:
        family: one of `list_families()`.
        train: the data.
        recipe: options of the family.
        options: options of the loop.
        device: as in `fit`.
        picture: path of the picture, the only file that is written.

    Returns:
        Lines for the user.
    """
    import torch

    from torchgenaug.recipes.accelerator import open_accelerator
    from torchgenaug.recipes.batches import spared, training_batches
    from torchgenaug.recipes.build import build_recipe, describe_family, family_view
    from torchgenaug.recipes.state import TrainingState

    lines = [_draw(train, picture)]
    train = family_view(family, train, recipe)
    about = describe_family(family)
    recipe = replace(recipe, steps=recipe.steps or about.steps, batch_size=recipe.batch_size or about.batch_size)
    with open_accelerator(device, options) as accelerator, torch.random.fork_rng():
        torch.manual_seed(options.seed)
        built = build_recipe(family, train, recipe)
        for name, network in built.networks.items():
            count = sum(each.numel() for each in network.parameters())
            if count:
                lines.append(f"{name}: {type(network).__name__}, {count / 1e6:.2f} M parameters")
        state = TrainingState(built, accelerator, options)
        batches = training_batches(
            train,
            recipe.batch_size or 1,
            seed=options.seed,
            augment=options.augment,
            spare=spared(built.networks),
            workers=options.workers,
        )
        _wait(state.train_step(batches, 0.0))
        started = time.perf_counter()
        for _ in range(_TIMED):
            losses = state.train_step(batches, 0.0)
        _wait(losses)
        seconds = (time.perf_counter() - started) / _TIMED
        where = accelerator.device  # not known any more at the end
    total = seconds * (recipe.steps or 1)
    samples = (recipe.batch_size or 1) * options.accumulate
    lines.append(
        f"{recipe.steps} steps of {samples} samples at {seconds:.2f} s on {where}"
        f"{'' if options.precision == 'no' else f' with {options.precision}'}: about {total / 60:.0f} min, reports not "
        f"counted. Nothing was written but the picture."
    )
    return lines


def _draw(train: TrainingData, picture: Path) -> str:
    from torchgenaug.pictures import contact_sheet

    rows = sorted({row * (len(train) - 1) // max(1, _SHOWN - 1) for row in range(_SHOWN)})
    try:
        contact_sheet([train.samples[row] for row in rows], train.fields, picture, rotate=train.quarter_turns)
    except MissingExtraError as error:
        return f"No picture of the data: {error}"
    shown = " with their masks" if "mask" in train.fields else ""
    return f"Look at {picture}: {len(rows)} samples{shown}, as they will be trained on."


def _wait(losses: object) -> None:
    """A GPU's steps are done once a value of theirs is read."""
    for value in losses.values():  # type: ignore[attr-defined]
        float(value)
