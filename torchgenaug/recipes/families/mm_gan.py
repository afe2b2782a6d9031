"""``mm-gan``: whatever modalities are missing from whichever are there, by one generator.

Sharma and Hamarneh (2020), "Missing MRI pulse sequence synthesis using multi-modal generative adversarial network": in
training a random part of the modalities is left out, and the generator has to fill it; losses count where something was
filled. The modalities are channels of the images, or groups of them; where the data have sources, those come first.
`FillMissing` takes the result.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada, adversarial
from torchgenaug.recipes.families.marks import hide
from torchgenaug.recipes.families.modalities import FILLED, SETTING, groups_of, marks_of_some, with_hidden_modalities
from torchgenaug.recipes.families.pix2pix import patch_critic
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

_DISTANCE_WEIGHT = 50.0

FAMILIES = {
    "mm-gan": Family(
        "any missing modality from any others (Sharma 2020): one model for every subset; for FillMissing",
        steps=4000,
        batch_size=4,
        dims=(2, 3),
        settings={**ada.settings(default=False), **SETTING},
        view=with_hidden_modalities,
        given=("source",),
        conditions_by=FILLED,
    )
}


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for data as `with_hidden_modalities` returns them.

    Raises:
        ConfigurationError: sizes that the networks cannot halve.
    """
    return AnyModality(data, options)


class AnyModality:
    """A generator of the missing modalities, and a critic that is shown all of them and which were missing."""

    averaged = frozenset({"generator"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        self.groups = groups_of(options, data.image_shape[0])
        shape, width = list(data.image_shape), options.width or 16
        self.networks: Mapping[str, nn.Module] = {
            "generator": build_network("torchgenaug:ModalityUNet", shape=shape, width=width),
            "critic": patch_critic(data, 2 * shape[0], width),
            **ada.augmentation(options),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as in `pix2pix`."""
        rate = self.options.learning_rate or 5e-4
        trained = {name: self.networks[name] for name in ("generator", "critic")}
        return {name: Adam(network.parameters(), lr=rate, betas=(0.5, 0.99)) for name, network in trained.items()}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The critic on real and filled images, then the generator."""
        real = batch["image"]
        generator = self.networks["generator"]
        marks = marks_of_some(real, self.groups)
        fake = generator(hide(real, marks, modalities=True))
        real_scores = self._scores(real, marks)
        ada.observe(self.networks, real_scores)
        loss = adversarial.real_loss(real_scores) + adversarial.fake_loss(self._scores(fake.detach(), marks))
        losses = {"critic": loss}
        update({"critic": loss})
        losses["generator"] = adversarial.real_loss(self._scores(fake, marks))
        # What is given is kept, so that only filled channels differ.
        distance = (fake - real).abs().sum() / (marks > 0).sum()
        losses["distance_to_real"] = _DISTANCE_WEIGHT * distance
        update({"generator": losses["generator"] + losses["distance_to_real"]})
        return losses

    def _scores(self, images: Tensor, marks: Tensor) -> Tensor:
        seen = ada.shown(self.networks, torch.cat([images, marks], 1), marks=marks.shape[1])
        scores: Tensor = self.networks["critic"](seen)[-1]
        return scores

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the generator; it has no latents."""
        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        return ModuleSynthesizer(
            adversarial.with_ranges(networks["generator"], value_range=[low, high]),
            latent_shape=None,
            condition="source",
            condition_spec=self.data.fields["source"],
            value_range=(low, high),
        )
