"""Fine-tuning: training that begins with the weights of a model of the same family that `fit` has trained before.

Transfer learning, as Kebaili et al. (2023), section 4, propose for small data: train on many images of another kind,
then go on with the few.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import checkpoint
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Recipe
from torchgenaug.recipes.start_networks import difference, networks_of, sampled_weights
from torchgenaug.synthesizers import ClassPromptSynthesizer, load_synthesizer

REFIT = (
    "The adapters of a fitted pipeline are merged into it, and its text encoder is not kept. Fit the pipeline that it "
    "was fitted from again: torchgenaug fit lora … --from PIPELINE, the folder that diffusers wrote"
)
"""What to do in place of training a model of ``lora`` further."""
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

    def options(self, options: Options) -> Options:
        """`options`, with what decides its networks where that is not given: condition, masks, width, latents."""
        missing = {
            name: self.run.get(name) for name in ("condition", *_STRUCTURE) if getattr(options, name, None) is None
        }
        with_mask = options.with_mask or bool(self.run.get("with_mask"))
        settings = {**self.run.get("settings", {}), **options.settings}
        return replace(options, **missing, with_mask=with_mask, settings=settings)

    def begin(self, recipe: Recipe, data: TrainingData) -> frozenset[str]:
        """Gives the networks of `recipe` the weights of this model; what it does not have begins untrained.

        What is sampled comes from the synthesizer, the rest (critics, encoders) from the checkpoint of its training.

        Returns:
            Names of the networks that begin untrained, which a warning states.

        Raises:
            ConfigurationError: networks of other shapes, images of other channels or dimensions.
            SynthesizerLoadError: a damaged checkpoint.
        """
        there, here = self.synthesizer.fields["image"].shape, data.image_shape
        if (there[0], len(there)) != (here[0], len(here)):
            raise self._refused("the images", f"shape {there} there, {here} here")
        state = checkpoint.load(Path(self.folder) / checkpoint.RUN_FOLDER, torch.device("cpu")) or {}
        kept: Mapping[str, Mapping[str, Tensor]] = {**state.get("networks", {}), **state.get("averages", {})}
        sampled = dict(sampled_weights(recipe, networks_of(self.synthesizer)))
        # Networks without parameters hold what is measured during the training, such as the scale of latents.
        wanted = {name: each for name, each in recipe.networks.items() if next(each.parameters(), None) is not None}
        untrained = [name for name in wanted if name not in sampled and name not in kept]
        if len(untrained) == len(wanted):
            raise self._other_shapes(recipe)
        for name, network in wanted.items():
            if name in untrained:
                continue
            weights = sampled[name] if name in sampled else kept[name]
            other = difference(network.state_dict(), weights)
            if other is not None:
                raise self._refused(name, other)
            network.load_state_dict(weights)
        # One that begins at zero changes nothing.
        untrained = [name for name in untrained if any(bool(each.any()) for each in wanted[name].parameters())]
        if untrained:
            warnings.warn(
                f"{self.folder!r} holds no weights for {', '.join(untrained)}, which begin untrained: the first steps "
                f"may unlearn something. Copy the model with its folder {checkpoint.RUN_FOLDER}/.",
                stacklevel=2,
            )
        return frozenset(untrained)

    def _other_shapes(self, recipe: Recipe) -> ConfigurationError:
        """The error where no network fits: the closest pair is named."""
        pairs = (
            (name, difference(mine.state_dict(), its.state_dict()))
            for name, mine in recipe.networks.items()
            for its in networks_of(self.synthesizer).values()
            if type(mine) is type(its)
        )
        name, other = next(pairs, (None, None))
        kinds = sorted(type(each).__name__ for each in networks_of(self.synthesizer).values())
        return self._refused(name or "the networks", other or f"{', '.join(kinds)} there, another kind here")

    def _refused(self, name: str, other: str) -> ConfigurationError:
        place = f"its folder {checkpoint.RUN_FOLDER}/"
        give = "Give" if self.run else f"Copy the model with {place}, which has them, or give"
        return ConfigurationError(
            f"`start` must fit the data and the options, got a difference in {name} to {self.folder!r}: {other}. "
            f"{give} the options that it was trained with (--condition, --with-mask, --width, "
            "--latent-dim, --sampling-steps), images of as many channels and classes, and its --size."
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
    if not (networks_of(synthesizer) if "family" in run else synthesizer.stored().networks):
        place = f"a {type(synthesizer).__name__} in {folder!r}"
        if isinstance(synthesizer, ClassPromptSynthesizer):
            raise ConfigurationError(f"`start` must be a model that can be trained further, got {place}. {REFIT}")
        parts = synthesizer.stored().parts
        if not parts:
            raise ConfigurationError(
                f"`start` must be a model that `torchgenaug fit` trained, got {place}, which has no networks. There is "
                "nothing to go on from. Leave --from out."
            )
        raise ConfigurationError(
            f"`start` must be a model that `torchgenaug fit` trained, got {place}, which only joins others, and no "
            f"folder {checkpoint.RUN_FOLDER}/ states its family. If fit trained it, copy that folder, too. If not, "
            f"train one of its parts further: {folder}/parts/{next(iter(parts))}"
        )
    return Start(folder, synthesizer, run)
