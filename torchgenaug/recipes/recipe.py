"""`Recipe`: what one family of generative models adds to the training loop: networks, losses, sampling settings."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

from torch import Tensor, nn
from torch.optim import Optimizer

from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data import TrainingData
from torchgenaug.types import Batch

Condition: TypeAlias = Literal["label", "mask", "source"]

Update: TypeAlias = Callable[[Mapping[str, Tensor]], None]
"""Losses by the optimizers' names: gradients of each for that optimizer's parameters alone, clipped; then all step."""


@dataclass(frozen=True)
class Options:
    """What a user may set about a recipe. None: the family's own default, which is made for small data.

    Attributes:
        condition: field that the model is to be told: ``"label"``, ``"mask"`` or ``"source"``; None: unconditional.
        with_mask: generate the mask together with the image (families that say so).
        steps: training steps in all; the learning rate may depend on it.
        batch_size: samples per step and process.
        width: channels of the widest-resolution layers: model size and time grow with its square.
        latent_dim: length of latent vectors, or channels of latent images.
        learning_rate: of the (first) optimizer.
        sampling_steps: denoising steps of a diffusion model when it is sampled.
        guidance_scale: classifier-free guidance when it is sampled; see `DiffusersSynthesizer`.
        teacher: folder of a trained model (families that are distilled from one). What it is told, and whether it makes
            masks, is then what `condition` and `with_mask` are unless they are given.
    """

    condition: Condition | None = None
    with_mask: bool = False
    steps: int | None = None
    batch_size: int | None = None
    width: int | None = None
    latent_dim: int | None = None
    learning_rate: float | None = None
    sampling_steps: int | None = None
    guidance_scale: float | None = None
    teacher: str | None = None


@dataclass(frozen=True)
class Family:
    """What a user should know about a family before choosing it; each family's module has ``FAMILIES``, by name.

    Attributes:
        summary: one line: what it is, who made it, what it is good for.
        steps: how long it trains unless the user says otherwise.
        batch_size: likewise.
        conditions: what it can be told; None stands for nothing.
        dims: 2, 3 or both.
        with_mask: whether it can make masks together with images.
        teacher: whether it learns from a trained model, and needs one.
        staged: whether only the end of its training makes the model that is wanted, so that it must not stop early.
    """

    summary: str
    steps: int
    batch_size: int
    conditions: tuple[Condition | None, ...] = (None,)
    dims: tuple[int, ...] = (2,)
    with_mask: bool = False
    teacher: bool = False
    staged: bool = False


class Recipe(Protocol):
    """The networks of one family on one data set, how they learn, and how they are sampled."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Everything that is trained, by name; made by `build_network` or by diffusers, so that it can be saved."""
        ...

    @property
    def averaged(self) -> frozenset[str]:
        """Networks that are sampled with an exponential moving average of their weights."""
        ...

    def optimizers(self) -> Mapping[str, Optimizer]:
        """Fresh optimizers by name; called once, after the networks were moved to their device."""
        ...

    def train_step(self, batch: Batch, update: Update, progress: float) -> Mapping[str, Tensor]:
        """One step.

        Args:
            batch: ``image`` and ``source`` float32 in [-1, 1], ``mask`` (batch, 1, *spatial) int64, ``label`` (batch,)
                int64: what the data have, on the device of the networks.
            update: to be called with the losses, each optimizer at most once; those of one graph together.
            progress: where training is, from 0 to 1.

        Returns:
            The losses to be shown, detached or not.

        Random numbers come from torch's default generators, which the loop seeds for every step.
        """
        ...

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> Synthesizer:
        """The synthesizer of these networks (copies or averages of its own), ready to be saved."""
        ...


_PYTHAE = (
    *("vae", "cvae", "rhvae", "hvae", "vae-gan", "vqvae", "vae-iaf", "vae-linnf", "info-vae", "beta-vae"),
    *("disentangled-beta-vae", "beta-tcvae", "factor-vae", "iwae", "miwae", "piwae", "ciwae", "vamp", "msssim-vae"),
    *("svae", "poincare-vae", "wae", "aae", "rae-l2", "rae-gp", "ae"),
)

_HOMES: Mapping[str, str] = {
    "ddpm": "ddpm",
    "ldm": "ldm",
    "progressive": "progressive",
    "dcgan": "gan",
    "wgan-gp": "gan",
    "acgan": "gan",
    "pix2pix": "pix2pix",
    "spade": "pix2pix",
    "cyclegan": "cyclegan",
    **dict.fromkeys(_PYTHAE, "autoencoders"),
}


def families() -> list[str]:
    """Every FAMILY that `fit` knows."""
    return list(_HOMES)


def describe_family(family: str) -> Family:
    """What the family can do.

    Raises:
        ConfigurationError: an unknown family.
    """
    about: Family = _home(family).FAMILIES[family]
    return about


def with_condition(family: str, data: TrainingData, options: Options) -> Options:
    """The options; a family that must be told something is told the first such thing that the data have.

    A family that learns from a teacher is told what that one is told.

    Raises:
        ConfigurationError: an unknown family, a teacher that is missing or surplus, or another kind of model.
        SynthesizerLoadError: no model in the teacher's folder.
    """
    about = describe_family(family)
    if about.teacher != (options.teacher is not None):
        learners = ", ".join(name for name in families() if describe_family(name).teacher)
        raise ConfigurationError(
            f"`teacher` must be the folder of a trained ddpm or ldm for {family}, got none. Give it: --teacher FOLDER"
            if about.teacher
            else f"`teacher` must be left out for {family}, got {options.teacher!r}. {learners} learns from one."
        )
    if options.teacher is not None:
        from torchgenaug.recipes.teachers import like_teacher, load_teacher

        return like_teacher(load_teacher(options.teacher), options)
    able = about.conditions
    if options.condition is not None or None in able:
        return options
    known = [each for each in able if each in data.fields]
    return replace(options, condition=known[0]) if known else options


def build_recipe(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe of `family` for `data`, with fresh networks from torch's default generator.

    Raises:
        ConfigurationError: an unknown family, or data or options that it cannot use.
        MissingExtraError: the library that has its networks is not installed.
    """
    about = describe_family(family)
    if options.condition not in about.conditions:
        allowed = ", ".join("none" if each is None else each for each in about.conditions)
        raise ConfigurationError(
            f"`condition` must be one that {family} can take ({allowed}), got {options.condition or 'none'!r}. "
            "`torchgenaug fit list` shows what each family can do."
        )
    if data.spatial_dims not in about.dims:
        able = [name for name in families() if data.spatial_dims in describe_family(name).dims]
        raise ConfigurationError(
            f"{family} must have images of {' or '.join(map(str, about.dims))} dimensions, got {data.image_shape} "
            f"(channels first). For these there are: {', '.join(able)}."
        )
    for field, wanted in ((options.condition, options.condition is not None), ("mask", options.with_mask)):
        if wanted and field not in data.fields:
            raise ConfigurationError(
                f"The data must have {field!r} for this, got {', '.join(data.fields)} from {data.name!r}. Leave "
                f"{'--condition' if field == options.condition else '--with-mask'} out, or choose data that have it."
            )
    if options.with_mask and not about.with_mask:
        able = [name for name in families() if describe_family(name).with_mask]
        raise ConfigurationError(
            f"`with_mask` must be left out for {family}, which makes images only. {', '.join(able)} can make both at "
            "once; or train a mask generator and a mask-conditioned image generator, and join them with "
            "TwoStageSynthesizer."
        )
    recipe: Recipe = _home(family).build(family, data, options)
    return recipe


def _home(family: str) -> Any:
    if family not in _HOMES:
        raise ConfigurationError(f"FAMILY must be one of {', '.join(_HOMES)}, got {family!r}.")
    return importlib.import_module(f"torchgenaug.recipes.{_HOMES[family]}")
