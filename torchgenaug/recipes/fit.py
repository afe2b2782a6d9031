"""`fit`: the one training loop of all recipes."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from torchgenaug.bare_names import bare_name
from torchgenaug.errors import ConfigurationError
from torchgenaug.local_paths import expanded
from torchgenaug.recipes import checkpoint
from torchgenaug.recipes.accelerator import open_accelerator
from torchgenaug.recipes.ancestry import Ancestor
from torchgenaug.recipes.build import build_recipe, describe_family, given_fields, resolve_condition
from torchgenaug.recipes.card import write_model_card
from torchgenaug.recipes.checkpoint import RUN_FOLDER
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.data_fingerprint import note_fingerprint, noted_fingerprint
from torchgenaug.recipes.families.teachers import chosen_teacher
from torchgenaug.recipes.held_out import given_split, split_for
from torchgenaug.recipes.lock import locked, remove_run
from torchgenaug.recipes.loop import FitResult, TrainingLoop
from torchgenaug.recipes.options import FitOptions, Options
from torchgenaug.recipes.recipe import Family
from torchgenaug.recipes.report import Judge, judged_part
from torchgenaug.recipes.settings import checked_settings
from torchgenaug.recipes.start import load_start
from torchgenaug.recipes.state import TrainingState
from torchgenaug.recipes.stopping import stoppable
from torchgenaug.recipes.time_limit import plan_run
from torchgenaug.synthesizers.parts.model_files import MAX_JSON_BYTES, has_too_many_values

_MAX_IDENTIFIER_BYTES = MAX_JSON_BYTES - (8 << 20)  # what else a model says of itself takes little

__all__ = ["RUN_FOLDER", "FitResult", "fit"]


def fit(
    family: str,
    data: TrainingData,
    out: str | Path,
    *,
    held_out: TrainingData | None = None,
    recipe: Options | None = None,
    options: FitOptions | None = None,
    device: str | None = None,
    fresh: bool = False,
    progress: bool = True,
    rotate: int = 0,
) -> FitResult:
    """Trains a generative model of `family` on `data` and saves it in `out`, where `load_synthesizer` finds it.

    Stop it at any moment: the same call goes on from the last checkpoint, to the same weights as without the stop (on
    the same kind of device). Several processes (``torchrun``, ``accelerate launch``) train together.

    Args:
        family: one of `list_families()`.
        data: what to train on.
        out: folder of the synthesizer; what belongs to the training is in ``out/training``.
        held_out: real samples that the model does not see, to judge it by; default: a tenth of `data`, by patient
            where patients are known.
        recipe: options of the family.
        options: options of the loop.
        device: ``"cpu"``, or a GPU where there is one by default.
        fresh: begin again, though `out` holds a run.
        progress: show a progress bar.
        rotate: quarter turns of the images in pictures (1 for torchio's axes).

    Raises:
        ConfigurationError: data, options or settings that the family cannot use; a run with other settings in `out`.
        SynthesizerLoadError: no model in the folder of the teacher or start, or a damaged checkpoint.
        DivergenceError: weights that are not numbers any more; what was saved before is kept.
    """
    started = time.monotonic()
    options, recipe = options or FitOptions(), recipe or Options()
    about, out = describe_family(family), expanded(out)
    _check(recipe, options)
    if about.staged and options.patience is not None:
        raise ConfigurationError(
            f"`patience` must be left out for {family}, got {options.patience}. Its samples are good at the end of its "
            "last stage only; a run that stops before has learnt something else. Give fewer --steps."
        )
    recipe = resolve_condition(family, data, recipe)
    shrink = recipe.steps is None  # steps that the user gave are all trained, over several calls if need be
    recipe = replace(recipe, steps=recipe.steps or about.steps, batch_size=recipe.batch_size or about.batch_size)
    ancestor = _ancestor(about, recipe, out)
    _check_identifiers(data)
    folder, everything = out / RUN_FOLDER, data
    frozen = _frozen(family, data, recipe, options, ancestor) | {"data_sha256": noted_fingerprint(data, folder)}
    if held_out is None:
        data, held_out = split_for(family, data, recipe, options.seed)
    else:
        data, held_out = given_split(family, data, held_out, recipe)
    if ancestor is not None:
        ancestor.warn_of_seen(held_out)
    # Everything draws from torch's global generators, which get back the state that they had.
    with open_accelerator(device, options) as accelerator, torch.random.fork_rng(), stoppable() as stop:
        main = accelerator.is_main_process
        build_recipe(family, data, recipe)  # raises what does not fit, before anything is removed or written
        with locked(out) if main else contextlib.nullcontext():
            if main:
                if fresh:
                    remove_run(out, RUN_FOLDER)
                checkpoint.begin(folder, frozen | {"processes": accelerator.num_processes})
                note_fingerprint(everything, folder, frozen["data_sha256"])
            accelerator.wait_for_everyone()
            given = given_fields(family, recipe)
            judge = Judge(data, judged_part(held_out, given), given) if main else None
            schedule = plan_run(family, data, recipe, options, accelerator, judge, folder, started, shrink=shrink)
            torch.manual_seed(options.seed)
            recipe = replace(recipe, steps=schedule.steps)
            run = TrainingState(build_recipe(family, data, recipe), accelerator, options)
            run.resume(folder)
            loop = TrainingLoop(
                *(run, data, judge, recipe, options, out, folder, rotate, started, ancestor),
                reports=schedule.reports,
                report_seconds=schedule.report_seconds,
            )
            result = loop.train(stop, progress)
            if main and result.synthesizer is not None:
                write_model_card(out, family, data, recipe, result)
            return result


def _frozen(
    family: str, data: TrainingData, recipe: Options, options: FitOptions, ancestor: Ancestor | None
) -> dict[str, Any]:
    """What a resume must not change."""
    return {
        "family": family,
        "teacher_fingerprint": ancestor.fingerprint if ancestor and ancestor.role == "teacher" else None,
        "data": bare_name(data.name),
        **_chosen(family, recipe),
        "teacher": None if recipe.teacher is None else bare_name(recipe.teacher),
        "seed": options.seed,
        "precision": options.precision,
        "accumulate": options.accumulate,
        "augment": options.augment,
        "ema_decay": options.ema_decay,
        "max_grad_norm": options.max_grad_norm,
        **({"balance": True} if options.balance else {}),  # older checkpoints do not know it
        **({"start_fingerprint": ancestor.fingerprint} if ancestor and ancestor.role == "start" else {}),
    }


def _ancestor(about: Family, recipe: Options, out: Path) -> Ancestor | None:
    """The model that this one is made from, if there is one."""
    if recipe.start is not None:
        if out.resolve() == Path(recipe.start).resolve():
            raise ConfigurationError(
                f"`out` must be another folder than that of the start, got {str(out)!r}. The model there would be "
                "overwritten. Choose a new folder."
            )
        if about.pretrained:
            from torchgenaug.recipes.families.lora import base_fingerprint

            return Ancestor("start", base_fingerprint(recipe.start), None)
        start = load_start(recipe.start).synthesizer
        return Ancestor("start", start.fingerprint, start.trained_on)
    teacher = chosen_teacher(recipe, out)
    return None if teacher is None else Ancestor("teacher", teacher.synthesizer.fingerprint, teacher.trained_on)


def _chosen(family: str, recipe: Options) -> dict[str, Any]:
    """All options; of settings and start what is not the default, so that older runs can be resumed."""
    known = describe_family(family).settings
    chosen = checked_settings(family, known, recipe.settings)
    changed = {name: value for name, value in chosen.items() if value != known[name].default}
    options = asdict(replace(recipe, settings={}))
    del options["settings"], options["start"]
    return {**options, "settings": changed} if changed else options


def _check_identifiers(data: TrainingData) -> None:
    """Refuses data whose identifiers would make a model that cannot be read again, before it is trained for days."""
    names = json.dumps([data.ids, sorted(set(data.patients))]).encode()
    if len(names) > _MAX_IDENTIFIER_BYTES or has_too_many_values(names):
        raise ConfigurationError(
            f"The identifiers of samples and patients must take at most {_MAX_IDENTIFIER_BYTES:,} bytes, a million of "
            f"them, got {len(data):,} samples with {len(names):,} bytes. A model states what it was trained on. Give "
            "folders and files shorter names, or train on fewer samples: --limit."
        )


def _check(recipe: Options, options: FitOptions) -> None:
    numbers = {
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "width": recipe.width,
        "latent_dim": recipe.latent_dim,
        "sampling_steps": recipe.sampling_steps,
        "accumulate": options.accumulate,
        "reports": options.reports,
        "patience": options.patience,
    }
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ConfigurationError(f"`{name}` must be at least 1, got {value!r}.")
    if recipe.learning_rate is not None and not recipe.learning_rate > 0:
        raise ConfigurationError(f"`learning_rate` must be positive, got {recipe.learning_rate!r}. 1e-3 is usual.")
