"""``pggan``: from noise (and a class) to an image or volume, learned from small images to large ones.

Karras, Aila, Laine, Lehtinen (2018), "Progressive growing of GANs for improved quality, stability, and variation": the
Wasserstein loss with gradient penalty and drift (their appendix A), one step of each network at a time. Every size but
the last one takes two equal parts of the training, one to fade in and one to settle; the last settles for two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.nets.equalised import halved
from torchgenaug.nets.pggan import at_growth
from torchgenaug.recipes.batches import AUGMENTATION
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada, adversarial
from torchgenaug.recipes.families.augmented import MovedAlike
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "pggan": Family(
        "GAN that grows (Karras 2018): low resolutions first, each faded in",
        steps=6000,
        batch_size=32,
        conditions=(None, "label"),
        dims=(2, 3),
        staged=True,
        settings=ada.settings(default=False),
    )
}
_LIPSCHITZ_WEIGHT, _DRIFT_WEIGHT, _VARIETY_WEIGHT = 10.0, 1e-3, 1.0
_LATENT_DIM = 64


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the networks cannot halve.
    """
    return GrowingGAN(data, options)


class GrowingGAN:
    """A generator and a critic that grow with the progress of the training."""

    averaged = frozenset({"generator"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options, self.grown = data, options, False
        self.num_classes = data.num_classes if options.condition == "label" else None
        self.latent_dim = options.latent_dim or _LATENT_DIM
        common = {"shape": list(data.image_shape), "width": options.width or 16, "num_classes": self.num_classes}
        self.networks: Mapping[str, Any] = {
            "generator": build_network("torchgenaug:PGGANGenerator", latent_dim=self.latent_dim, **common),
            "critic": build_network("torchgenaug:PGGANCritic", **common),
            AUGMENTATION: MovedAlike(),
            **ada.augmentation(self.options),
        }

    def go_on(self, untrained: frozenset[str]) -> None:
        """A trained generator has grown already."""
        self.grown = True

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as Karras (2018), appendix A.1."""
        rate = self.options.learning_rate or 1e-3
        trained = {name: self.networks[name] for name in ("generator", "critic")}
        return {name: Adam(network.parameters(), lr=rate, betas=(0.0, 0.99)) for name, network in trained.items()}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The critic on real and generated images of the present size, then the generator."""
        generator, critic = self.networks["generator"], self.networks["critic"]
        growth = generator.levels if self.grown else growth_at(progress, generator.levels)
        generator.growth.fill_(growth)
        growth = float(generator.growth)  # rounded as the buffer is
        labels = batch["label"] if self.num_classes is not None else None
        real = at_growth(batch["image"], growth, generator.levels)
        noise = torch.randn((len(real), self.latent_dim), device=real.device)
        fake = generator.grown(noise, labels)
        seen = self._moved(fake, batch.get(AUGMENTATION), generator.levels - math.ceil(growth))
        losses = self._critic_losses(real, seen.detach(), growth, labels)
        update({"critic": torch.stack(list(losses.values())).sum()})
        made = {"generator": -critic(self._shown(seen), growth, labels).mean()}
        if labels is not None:
            again = torch.randn_like(noise)
            other = generator.grown(again, labels)
            made["sameness"] = _VARIETY_WEIGHT * adversarial.sameness(fake, other, torch.cat([noise, again]))
        update({"generator": torch.stack(list(made.values())).sum()})
        return losses | made

    def _critic_losses(self, real: Tensor, fake: Tensor, growth: float, labels: Tensor | None) -> dict[str, Tensor]:
        critic = self.networks["critic"]
        real, fake = self._shown(real), self._shown(fake)
        penalty = adversarial.lipschitz_penalty(lambda images: critic(images, growth, labels), real, fake)
        real_scores, fake_scores = critic(real, growth, labels), critic(fake, growth, labels)
        if "ada" in self.networks:
            self.networks["ada"].observe(real_scores, middle=(real_scores.mean() + fake_scores.mean()) / 2)
        return {
            "critic": fake_scores.mean() - real_scores.mean(),
            "penalty": _LIPSCHITZ_WEIGHT * penalty,
            "drift": _DRIFT_WEIGHT * real_scores.square().mean(),
        }

    def _moved(self, images: Tensor, drawn: Tensor | None, halvings: int) -> Tensor:
        """Images moved at full size, as the real ones were before they were halved so often."""
        made: Tensor = self.networks[AUGMENTATION](functional.interpolate(images, scale_factor=2**halvings), drawn)
        for _ in range(halvings):
            made = halved(made)
        return made

    def _shown(self, images: Tensor) -> Tensor:
        shown: Tensor = self.networks["ada"](images) if "ada" in self.networks else images
        return shown

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the generator; before it is full-grown, images are enlarged."""
        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        return ModuleSynthesizer(
            adversarial.with_ranges(networks["generator"], value_range=[low, high]),
            latent_shape=(self.latent_dim,),
            num_classes=self.num_classes,
            value_range=(low, high),
        )


def growth_at(progress: float, levels: int) -> float:
    """How far the networks have grown: whole numbers while a size settles, between them while one fades in.

    Args:
        progress: of the training, from 0 to 1.
        levels: of a full-grown generator.
    """
    part = progress * (2 * levels + 2)  # one for the first size, two for each other, one more for the last
    level, place = divmod(part - 1, 2)
    return min(float(levels), max(0.0, level + min(1.0, place))) if part >= 1 else 0.0
