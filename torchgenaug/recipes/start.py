"""Fine-tuning: training that begins with the weights of a model of the same family that `fit` has trained before.

Transfer learning, as Kebaili et al. (2023), section 4, propose for small data: train on many images of another kind,
then go on with the few.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import checkpoint
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Recipe
from torchgenaug.synthesizers import load_synthesizer

_STRUCTURE = ("width", "latent_dim", "sampling_steps")  # the last decides networks of ddgan


@dataclass(frozen=True)
class Start:
    """A trained model in a folder.

    Attributes:
        folder: where it was loaded from, as it was named.
        synthesizer: what is sampled.
        run: settings of the run that trained it; empty where the folder holds the synthesizer alone.
    """

    folder: str
    synthesizer: Any
    run: Mapping[str, Any]

    def options(self, family: str, options: Options) -> Options:
        """`options`, with what decides its networks where that is not given: condition, masks, width, latents.

        Raises:
            ConfigurationError: a model of another family.
        """
        if self.run.get("family", family) != family:
            raise ConfigurationError(
                f"`start` must be a model of the family {family}, got one of {self.run['family']} in {self.folder!r}. "
                f"Weights of one family mean nothing to another. Train further with: torchgenaug fit "
                f"{self.run['family']} … --from {self.folder}"
            )
        missing = {
            name: self.run.get(name) for name in ("condition", *_STRUCTURE) if getattr(options, name, None) is None
        }
        with_mask = options.with_mask or bool(self.run.get("with_mask"))
        settings = {**self.run.get("settings", {}), **options.settings}
        return replace(options, **missing, with_mask=with_mask, settings=settings)

    def begin(self, recipe: Recipe, data: TrainingData) -> None:
        """Gives the networks of `recipe` the weights of this model; what it does not have begins untrained.

        What is sampled comes from the synthesizer, the rest (critics, encoders) from the checkpoint of its training.

        Raises:
            ConfigurationError: networks of other shapes, images of other channels or dimensions.
            SynthesizerLoadError: a damaged checkpoint.
        """
        there, here = self.synthesizer.fields["image"].shape, data.image_shape
        if (there[0], len(there)) != (here[0], len(here)):
            raise self._refused("the images", f"shape {there} there, {here} here")
        state = checkpoint.load(Path(self.folder) / checkpoint.RUN_FOLDER, torch.device("cpu")) or {}
        kept: Mapping[str, Mapping[str, Tensor]] = {**state.get("networks", {}), **state.get("averages", {})}
        sampled = dict(_sampled(recipe, _networks(self.synthesizer)))
        # Networks without parameters hold what is measured during the training, such as the scale of latents.
        wanted = {name: each for name, each in recipe.networks.items() if next(each.parameters(), None) is not None}
        untrained = [name for name in wanted if name not in sampled and name not in kept]
        if len(untrained) == len(wanted):
            raise self._other_shapes(recipe)
        for name, network in wanted.items():
            if name in untrained:
                continue
            weights = sampled[name] if name in sampled else kept[name]
            difference = _difference(network.state_dict(), weights)
            if difference is not None:
                raise self._refused(name, difference)
            network.load_state_dict(weights)
        # One that begins at zero changes nothing.
        untrained = [name for name in untrained if any(bool(each.any()) for each in wanted[name].parameters())]
        if untrained:
            warnings.warn(
                f"{self.folder!r} holds no weights for {', '.join(untrained)}, which begin untrained: the first steps "
                f"may unlearn something. Copy the model with its folder {checkpoint.RUN_FOLDER}/.",
                stacklevel=2,
            )

    def _other_shapes(self, recipe: Recipe) -> ConfigurationError:
        """The error where no network fits: the closest pair is named."""
        pairs = (
            (name, _difference(mine.state_dict(), its.state_dict()))
            for name, mine in recipe.networks.items()
            for its in _networks(self.synthesizer).values()
            if type(mine) is type(its)
        )
        name, difference = next(pairs, (None, None))
        kinds = sorted(type(each).__name__ for each in _networks(self.synthesizer).values())
        return self._refused(name or "the networks", difference or f"{', '.join(kinds)} there, another kind here")

    def _refused(self, name: str, difference: str) -> ConfigurationError:
        return ConfigurationError(
            f"`start` must fit the data and the options, got a difference in {name} to {self.folder!r}: {difference}. "
            "Give the options that it was trained with (--condition, --with-mask, --width, --latent-dim, "
            "--sampling-steps), images of as many channels and classes, and its --size."
        )


def load_start(folder: str) -> Start:
    """The model in `folder`, which `fit` or `save_synthesizer` wrote.

    Raises:
        SynthesizerLoadError: no such folder, or a damaged one.
        ConfigurationError: a synthesizer without networks.
    """
    synthesizer = load_synthesizer(folder, dtype=torch.float32)
    run = checkpoint.settings_of(Path(folder) / checkpoint.RUN_FOLDER) or {}
    # What `fit` trained may join several: two stages, a diffusion model that fills regions.
    if not (_networks(synthesizer) if "family" in run else synthesizer.stored().networks):
        raise ConfigurationError(
            f"`start` must be a model that `torchgenaug fit` trained, got a {type(synthesizer).__name__} in "
            f"{folder!r}, which only joins others. Train one of its parts further: {folder}/parts/…"
        )
    return Start(folder, synthesizer, run)


def _networks(synthesizer: Any) -> dict[str, nn.Module]:
    """Those of a synthesizer and of the parts that it joins."""
    stored = synthesizer.stored()
    found = dict(stored.networks)
    for name, part in stored.parts.items():
        found |= {f"{name}.{key}": network for key, network in _networks(part).items()}
    return found


def _sampled(recipe: Recipe, stored: Mapping[str, nn.Module]) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """(name in the recipe, weights) of the stored networks that fit one network of the recipe and no other."""
    for network in stored.values():
        weights = network.state_dict()
        fitting = [
            name
            for name, mine in recipe.networks.items()
            if type(mine) is type(network) and _difference(mine.state_dict(), weights) is None
        ]
        if len(fitting) == 1:
            yield fitting[0], weights


def _difference(mine: Mapping[str, Tensor], its: Mapping[str, Tensor]) -> str | None:
    """The first difference of names or shapes; None if there is none."""
    for name in dict.fromkeys([*mine, *its]):
        here, there = (
            "no such weight" if each is None else str(tuple(each.shape)) for each in (mine.get(name), its.get(name))
        )
        if here != there:
            return f"{name}: {there} there, {here} here"
    return None
