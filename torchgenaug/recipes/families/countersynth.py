"""``countersynth``: a real image with another class, by deforming it: what it would look like, older or ill.

Pombo et al. (2023), "Equitable modelling of brain imaging by counterfactual augmentation with morphologically
constrained 3D deep generative models" (CounterSynth), section 2: a generator of diffeomorphic deformations, against a
critic that also classifies. Only shape and place can change: no intensity is made. A second term holds volumes where
nothing requires their change, a third the image whose class is the wanted one already.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.deformation import moved, volume_change
from torchgenaug.recipes.data.derived import derived
from torchgenaug.recipes.data.training_data import Samples, TrainingData
from torchgenaug.recipes.families import ada, adversarial
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.seeding import derive
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

_R1_WEIGHT, _CLASS_WEIGHT, _SAME_WEIGHT = 0.2, 1.0, 10.0


def with_other_classes(data: TrainingData, options: Options) -> TrainingData:
    """The data with ``source``: the image of a sample of another class, a function of the sample's index.

    Raises:
        ConfigurationError: no labels, or one class only.
    """
    labels = data.labels()
    classes = np.empty(0, np.int64) if labels is None else np.unique(labels)
    if labels is None or len(classes) < 2:
        raise ConfigurationError(
            f"The data must have labels of at least two classes for countersynth, got {len(classes)} in {data.name!r} "
            f"({len(data)} samples). A counterfactual is an image with another class."
        )
    others = {int(each): np.flatnonzero(labels != each) for each in classes}
    drawn = derive(2, np.arange(len(data)))
    partners = [int(others[int(own)][int(key) % len(others[int(own)])]) for own, key in zip(labels, drawn, strict=True)]
    fields = {"source": data.fields["image"]}
    return derived(data, fields, partial(_with_partner, samples=data.samples, partners=partners))


FAMILIES = {
    "countersynth": Family(
        "a real image with another class, by a deformation that never folds (Pombo 2023): for Counterfactuals",
        steps=3000,
        batch_size=8,
        conditions=("label",),
        dims=(2, 3),
        settings={
            **ada.settings(default=False),
            "volume": Setting(0.1, "weight of keeping volumes: mean squared logarithm of their change", low=0),
        },
        view=with_other_classes,
        given=("source", "label"),
        conditions_by="Counterfactuals(data set, num_classes)",
    )
}


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for data as `with_other_classes` returns them.

    Raises:
        ConfigurationError: sizes that the networks cannot halve.
    """
    return Counterfactual(data, options)


class Counterfactual:
    """A generator of deformations, and a critic that classifies."""

    averaged = frozenset({"generator"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        shape, width, classes = list(data.image_shape), options.width or 16, data.num_classes
        self.networks: Mapping[str, nn.Module] = {
            "generator": build_network("torchgenaug:DeformationUNet", shape=shape, num_classes=classes, width=width),
            "critic": build_network(
                "torchgenaug:Critic", shape=shape, width=width, num_classes=classes, auxiliary=True
            ),
            **ada.augmentation(options),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as in `acgan`."""
        rate = self.options.learning_rate or 5e-4
        trained = {name: self.networks[name] for name in ("generator", "critic")}
        return {name: Adam(network.parameters(), lr=rate, betas=(0.5, 0.99)) for name, network in trained.items()}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The critic on real and deformed images, then the generator."""
        real, source, labels = batch["image"], batch["source"], batch["label"]
        generator: Any = self.networks["generator"]
        critic = self.networks["critic"]
        shift = generator.displacement(source, labels)
        fake = moved(source, shift)
        shown = ada.shown(self.networks, real).detach().requires_grad_()
        scores, classes = critic(shown)
        ada.observe(self.networks, scores)
        losses = {
            "critic": adversarial.real_loss(scores)
            + adversarial.fake_loss(critic(ada.shown(self.networks, fake.detach()))[0]),
            "penalty": _R1_WEIGHT / 2 * adversarial.squared_gradient(scores, shown).mean(),
            "critic_class": _CLASS_WEIGHT * functional.cross_entropy(classes, labels),
        }
        update({"critic": torch.stack(list(losses.values())).sum()})
        scores, classes = critic(ada.shown(self.networks, fake))
        change = volume_change(shift).clamp(min=0.01).log()
        made = {
            "generator": adversarial.real_loss(scores),
            "generator_class": _CLASS_WEIGHT * functional.cross_entropy(classes, labels),
            "volume": float(self.options.settings["volume"]) * change.square().mean(),
            "same_class": _SAME_WEIGHT * functional.l1_loss(generator(real, labels), real),
        }
        update({"generator": torch.stack(list(made.values())).sum()})
        return losses | made

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the generator: ``source``, a real image, and ``label``, the class that it is to have."""
        spec = self.data.fields["image"]
        low, high = spec.value_range or (0.0, 1.0)
        return ModuleSynthesizer(
            adversarial.with_ranges(networks["generator"], value_range=[low, high]),
            latent_shape=None,
            condition="source",
            condition_spec=spec,
            num_classes=self.data.num_classes,
            value_range=(low, high),
        )


def _with_partner(
    index: int, sample: Mapping[str, Tensor], *, samples: Samples, partners: list[int]
) -> dict[str, Tensor]:
    return {**sample, "source": samples[partners[index]]["image"]}
