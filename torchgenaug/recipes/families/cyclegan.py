"""``cyclegan``: from one modality to another, learned from images that do not belong together.

Zhu, Park, Isola, Efros (2017), "Unpaired image-to-image translation using cycle-consistent adversarial networks": two
generators, two critics, least-squares losses (their section 4), cycles weighted with 10, the identity with 5. Their
buffer of 50 older fakes is left out: a run that goes on from a checkpoint could not be the one that was not stopped.
An edge of the source is to be an edge of its translation, whatever the contrast of either: `edge_distance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada, adversarial
from torchgenaug.recipes.families.pix2pix import patch_critic
from torchgenaug.recipes.families.structure import STRUCTURE, edge_distance
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "cyclegan": Family(
        "unpaired translation (Zhu 2017): source image to image where no pairs exist; pix2pix is better where they do",
        steps=2500,
        batch_size=4,
        conditions=("source",),
        dims=(2, 3),
        settings={**ada.settings(default=False), **STRUCTURE},
    )
}
_CYCLE_WEIGHT, _IDENTITY_WEIGHT = 10.0, 5.0


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the networks cannot halve.
    """
    return UnpairedTranslation(data, options)


class UnpairedTranslation:
    """Two generators and two critics; what is kept is the way from source to image."""

    averaged = frozenset({"to_image"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        width, image, source = options.width or 16, list(data.image_shape), list(data.fields["source"].shape)
        self.same_channels = image[0] == source[0]
        self.networks: Mapping[str, nn.Module] = {
            "to_image": _translator(source[0], image, width),
            "to_source": _translator(image[0], source, width),
            "image_critic": patch_critic(data, image[0], width),
            "source_critic": patch_critic(data, source[0], width),
            **ada.augmentation(self.options),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as Zhu (2017); the rate suits short training."""
        rate, networks = self.options.learning_rate or 5e-4, self.networks
        groups = {"generators": ("to_image", "to_source"), "critics": ("image_critic", "source_critic")}
        return {
            name: Adam([each for part in parts for each in networks[part].parameters()], lr=rate, betas=(0.5, 0.99))
            for name, parts in groups.items()
        }

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """Both generators, then both critics."""
        image, source = unpaired(batch)
        to_image, to_source = self.networks["to_image"], self.networks["to_source"]
        fake_image, fake_source = to_image(source), to_source(image)
        cycle = functional.l1_loss(to_source(fake_image), source) + functional.l1_loss(to_image(fake_source), image)
        losses = {
            "generators": self._score("image", fake_image, 1.0) + self._score("source", fake_source, 1.0),
            "cycle": _CYCLE_WEIGHT * cycle,
        }
        if self.same_channels:
            same = functional.l1_loss(to_image(image), image) + functional.l1_loss(to_source(source), source)
            losses["identity"] = _IDENTITY_WEIGHT * same
        weight = float(self.options.settings["structure"])
        if weight:
            losses["structure"] = weight * (edge_distance(fake_image, source) + edge_distance(fake_source, image))
        update({"generators": torch.stack(list(losses.values())).sum()})
        losses["critics"] = 0.5 * (
            self._score("image", image, 1.0, observed=True)
            + self._score("image", fake_image.detach(), 0.0)
            + self._score("source", source, 1.0, observed=True)
            + self._score("source", fake_source.detach(), 0.0)
        )
        update({"critics": losses["critics"]})
        return losses

    def _score(self, kind: str, images: Tensor, wanted: float, *, observed: bool = False) -> Tensor:
        augment: Any = self.networks.get("ada")
        scores: Tensor = self.networks[f"{kind}_critic"](images if augment is None else augment(images))[-1]
        if augment is not None and observed:
            augment.observe(scores, middle=0.5)
        return (scores - wanted).square().mean()

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the generator from source to image; it has no latents."""
        return source_synthesizer(networks["to_image"], self.data)


def unpaired(batch: Batch) -> tuple[Tensor, Tensor]:
    """Images and sources of a batch in different orders: no loss can compare a source with its own image."""
    image = batch["image"]
    return image[torch.randperm(len(image), device=image.device)], batch["source"]


def source_synthesizer(translator: nn.Module, data: TrainingData, latent_dim: int | None = None) -> ModuleSynthesizer:
    """The synthesizer of a network from the source (and latents) to the image, in the data's own units."""
    low, high = data.fields["image"].value_range or (0.0, 1.0)
    source = data.fields["source"]
    ranged = adversarial.with_ranges(
        translator, value_range=[low, high], source_range=list(source.value_range or (0.0, 1.0))
    )
    return ModuleSynthesizer(
        ranged,
        latent_shape=None if latent_dim is None else (latent_dim,),
        condition="source",
        condition_spec=source,
        value_range=(low, high),
    )


def _translator(in_channels: int, shape: list[int], width: int) -> nn.Module:
    return build_network("torchgenaug:TranslationUNet", in_channels=in_channels, shape=shape, width=width)
