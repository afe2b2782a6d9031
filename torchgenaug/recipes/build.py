"""Families by name: what each can do, and the recipe of one for given data and options."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import checkpoint
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, GoesOn, Recipe
from torchgenaug.recipes.settings import checked_settings

_PYTHAE = (
    *("vae", "cvae", "rhvae", "hvae", "vae-gan", "vqvae", "vae-iaf", "vae-linnf", "info-vae", "beta-vae"),
    *("disentangled-beta-vae", "beta-tcvae", "factor-vae", "iwae", "miwae", "piwae", "ciwae", "vamp", "msssim-vae"),
    *("svae", "poincare-vae", "wae", "aae", "rae-l2", "rae-gp", "ae"),
)

_HOMES: Mapping[str, str] = {
    "ddpm": "ddpm",
    "ldm": "ldm",
    "score-sde": "score_sde",
    "ddgan": "ddgan",
    "slices": "slices",
    "vqvae2": "vqvae2",
    "progressive": "progressive",
    "lora": "lora",
    "dcgan": "gan",
    "wgan-gp": "gan",
    "acgan": "gan",
    "pggan": "pggan",
    "stylegan2": "stylegan2",
    "pix2pix": "pix2pix",
    "spade": "pix2pix",
    "cyclegan": "cyclegan",
    "regression": "regression",
    "look-up": "regression",
    "cut": "cut",
    "munit": "munit",
    "unit": "munit",
    "mm-gan": "mm_gan",
    "inpaint": "inpaint",
    "countersynth": "countersynth",
    "mm-ddpm": "filling_ddpm",
    "inpaint-ddpm": "filling_ddpm",
    "introvae": "introvae",
    "two-stage-vae": "two_stage_vae",
    **dict.fromkeys(_PYTHAE, "autoencoders"),
}


_REMEDIES: Mapping[str, str] = {
    "source": "Put images into a folder images/, and what they are translated from into sources/ next to it, with the "
    "same names.",
    "mask": "Put images into a folder images/, and their masks into masks/ next to it, with the same names.",
    "label": "Put the images of each class into a folder of its own, or name their classes in labels.csv.",
}


def list_families() -> list[str]:
    """Every FAMILY that `fit` knows."""
    return list(_HOMES)


def describe_family(family: str) -> Family:
    """What the family can do.

    Raises:
        ConfigurationError: an unknown family.
    """
    about: Family = _home(family).FAMILIES[family]
    return about


def resolve_condition(family: str, data: TrainingData, options: Options) -> Options:
    """Fills in a required condition with the first supported field that the data has.

    A family that learns from a teacher takes the teacher's conditions; training that starts from a model, the model's.

    Raises:
        ConfigurationError: an unknown family, a teacher that is missing or surplus, or another kind of model.
        SynthesizerLoadError: no model in the teacher's folder.
    """
    about = describe_family(family)
    if about.teacher != (options.teacher is not None):
        learners = ", ".join(name for name in list_families() if describe_family(name).teacher)
        raise ConfigurationError(
            f"`teacher` must be the folder of a trained ddpm or ldm for {family}, got none. Give it: --teacher FOLDER"
            if about.teacher
            else f"`teacher` must be left out for {family}, got {options.teacher!r}. {learners} learns from one."
        )
    if about.pretrained and options.start is None:
        raise ConfigurationError(
            f"`start` must be the folder of a pretrained pipeline for {family}, got none. Give it: --from FOLDER"
        )
    if about.pretrained:
        _check_start(family, str(options.start))
    elif options.start is not None:
        if about.teacher:
            raise ConfigurationError(
                f"`start` must be left out for {family}, got {options.start!r}. It begins as a copy of its teacher."
            )
        from torchgenaug.recipes.start import load_start

        _check_start(family, options.start)
        options = load_start(options.start).options(options)
    if options.teacher is not None:
        from torchgenaug.recipes.families.teachers import like_teacher, load_teacher

        return like_teacher(load_teacher(options.teacher), options)
    able = about.conditions
    if options.condition is not None or None in able:
        return options
    known = [each for each in able if each in data.fields]
    return replace(options, condition=known[0]) if known else options


def family_view(family: str, data: TrainingData, options: Options) -> TrainingData:
    """The data as the family sees them: `Family.view`.

    Raises:
        ConfigurationError: an unknown family, or data that it cannot use.
    """
    about = describe_family(family)
    if about.view is None:
        return data
    return about.view(data, replace(options, settings=checked_settings(family, about.settings, options.settings)))


def given_fields(family: str, options: Options) -> tuple[str, ...]:
    """Fields of the data that samples of this family are conditioned on."""
    given = describe_family(family).given
    if given is not None:
        return given
    return () if options.condition is None else (options.condition,)


def build_recipe(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe of `family` for `data` (as `family_view` returns them), its networks fresh or those of a start.

    Raises:
        ConfigurationError: an unknown family, or data or options that it cannot use.
        MissingExtraError: the library that has its networks is not installed.
    """
    about = describe_family(family)
    if options.condition not in about.conditions:
        if options.condition is None and not set(about.conditions) & set(data.fields):
            raise ConfigurationError(
                f"The data must have {' or '.join(map(repr, about.conditions))} for {family}, got "
                f"{', '.join(data.fields)} from {data.name!r}. {_REMEDIES[str(about.conditions[0])]}"
            )
        allowed = ", ".join("none" if each is None else each for each in about.conditions)
        raise ConfigurationError(
            f"`condition` must be one that {family} can take ({allowed}), got {options.condition or 'none'!r}. "
            "`torchgenaug fit list` shows what each family can do."
        )
    if options.condition == "label" and not about.unlabelled and data.num_unlabelled:
        able = [name for name in list_families() if describe_family(name).unlabelled]
        raise ConfigurationError(
            f"The data of {family} with condition 'label' must have a label for every sample, got "
            f"{data.num_unlabelled} of {len(data)} without one in {data.name!r}. It could not learn from them. Leave "
            f"them out: data.labelled() (--labelled-only); or use them: {', '.join(able)}, or no condition."
        )
    if data.spatial_dims not in about.dims:
        able = [name for name in list_families() if data.spatial_dims in describe_family(name).dims]
        raise ConfigurationError(
            f"{family} must have images of {' or '.join(map(str, about.dims))} dimensions, got {data.image_shape} "
            f"(channels first). For these there are: {', '.join(able)}."
        )
    for field, wanted in ((options.condition, options.condition is not None), ("mask", options.with_mask)):
        if wanted and field not in data.fields:
            given = "--condition" if field == options.condition else "--with-mask"
            model = options.teacher or (None if about.pretrained else options.start)
            if given == "--condition" and None not in about.conditions:
                hint = _REMEDIES[str(field)]
            elif model is not None:
                hint = f"The model in {model!r} has it; take another one, or choose data that have it."
            else:
                hint = f"Leave {given} out, or choose data that have it."
            raise ConfigurationError(
                f"The data must have {field!r} for this, got {', '.join(data.fields)} from {data.name!r}. {hint}"
            )
    if options.with_mask and not about.with_mask:
        able = [name for name in list_families() if describe_family(name).with_mask]
        raise ConfigurationError(
            f"`with_mask` must be left out for {family}, which makes images only. {', '.join(able)} can make both at "
            "once; or train a mask generator and a mask-conditioned image generator, and join them with "
            "TwoStageSynthesizer."
        )
    options = replace(options, settings=checked_settings(family, about.settings, options.settings))
    recipe: Recipe = _home(family).build(family, data, options)
    if options.start is not None and not about.pretrained:
        from torchgenaug.recipes.start import load_start

        untrained = load_start(options.start).begin(recipe, data)
        if isinstance(recipe, GoesOn):
            recipe.go_on(untrained)
    return recipe


def _check_start(family: str, folder: str) -> None:
    """Raises `ConfigurationError` where `fit` trained the model in `folder` as another family, or it cannot go on."""
    from torchgenaug.recipes.start import REFIT

    trained = (checkpoint.settings_of(Path(folder) / checkpoint.RUN_FOLDER) or {}).get("family", "")
    if trained not in _HOMES or (trained == family and not describe_family(family).pretrained):
        return
    about = describe_family(trained)
    if about.pretrained:
        remedy = REFIT
    elif about.teacher:
        remedy = f"Such a model learns from its teacher: torchgenaug fit {trained} … --teacher FOLDER"
    else:
        remedy = f"Train it further with: torchgenaug fit {trained} … --from {folder}"
    kind = "the folder of a pretrained pipeline for" if describe_family(family).pretrained else "a model of the family"
    raise ConfigurationError(f"`start` must be {kind} {family}, got one of {trained} in {folder!r}. {remedy}")


def _home(family: str) -> Any:
    if family not in _HOMES:
        close = difflib.get_close_matches(family, _HOMES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else " `torchgenaug fit list` explains each."
        raise ConfigurationError(f"FAMILY must be one of {', '.join(_HOMES)}, got {family!r}.{hint}")
    return importlib.import_module(f"torchgenaug.recipes.families.{_HOMES[family]}")
