"""``mm-gan``: whatever modalities are missing from whichever are there, by one generator.

Sharma and Hamarneh (2020), "Missing MRI pulse sequence synthesis using multi-modal generative adversarial network": in
training a random part of the modalities is left out, and the generator has to fill it; losses count where something was
filled. The modalities are the channels of the images; where the data have sources, those come first. `FillMissing`
takes the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.derived import derived
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada, adversarial
from torchgenaug.recipes.families.marks import hide
from torchgenaug.recipes.families.pix2pix import patch_critic
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.seeding import derive, uniform
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch, FieldSpec

FILLED = "FillMissing(data set, synthesizer, source=[modalities in the order of the channels]).sequence.conditions"
_DISTANCE_WEIGHT = 50.0
_LEAST_SHARE = 0.02  # of the common range: what a modality's own range must span to be seen


def with_hidden_modalities(data: TrainingData, options: Options) -> TrainingData:
    """The data with all modalities as ``image``, and as ``source`` a part of them with marks of what is missing.

    Sample k lacks one modality or more, a function of k.

    Raises:
        ConfigurationError: fewer than two modalities, or ranges that do not go together.
    """
    image, source = data.fields["image"], data.fields.get("source")
    parts = ("source", "image") if source is not None else ("image",)
    count = sum(data.fields[name].shape[0] for name in parts)
    if count < 2:
        raise ConfigurationError(
            f"The images must have at least two modalities for this family, as channels or as sources, got "
            f"{data.image_shape} of {data.name!r} without sources. Put the modalities of a patient into one image."
        )
    limits = [data.fields[name].value_range or (0.0, 1.0) for name in parts]
    low, high = min(each[0] for each in limits), max(each[1] for each in limits)
    if min(each[1] - each[0] for each in limits) < _LEAST_SHARE * (high - low):
        raise ConfigurationError(
            f"Source and image must have ranges of one order for this family, got {limits}. The narrower one would be "
            "all but constant in the range of both. Rescale the files."
        )
    shape = image.shape[1:]
    fields = {
        "image": FieldSpec((count, *shape), value_range=(low, high)),
        "source": FieldSpec((2 * count, *shape), value_range=(low, high)),
    }
    return derived(data, fields, partial(_hide_some, parts=parts, low=low, high=high))


FAMILIES = {
    "mm-gan": Family(
        "any missing modality from any others (Sharma 2020): one model for every subset; for FillMissing",
        steps=4000,
        batch_size=4,
        dims=(2, 3),
        settings=ada.settings(default=False),
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
        marks = marks_of_some(real)
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


def marks_of_some(images: Tensor) -> Tensor:
    """Marks of a random part of the modalities of each image, of their shape: 1 where it is hidden, else -1."""
    hidden = _hidden(torch.rand(images.shape[:2], device=images.device), torch.rand(len(images), device=images.device))
    return hidden.to(images.dtype).mul(2).sub(1)[(...,) + (None,) * (images.ndim - 2)].expand_as(images)


def _hidden(order: Tensor, share: Tensor) -> Tensor:
    """Which modalities are hidden, bool (batch, modalities): one to all but one, each number equally often.

    Args:
        order: (batch, modalities) distinct numbers: the smallest are hidden.
        share: (batch,) in [0, 1), decides how many.
    """
    modalities = order.shape[1]
    count = 1 + (share * (modalities - 1)).long().clamp(max=modalities - 2)
    return order.argsort(1).argsort(1) < count[:, None]


def _hide_some(
    index: int, sample: Mapping[str, Tensor], *, parts: tuple[str, ...], low: float, high: float
) -> dict[str, Tensor]:
    image = torch.cat([sample[name] for name in parts])
    drawn = torch.from_numpy(uniform(derive(0, [index]), len(image) + 1))
    hidden = _hidden(drawn[:, 1:], drawn[:, 0])[0][(...,) + (None,) * (image.ndim - 1)]
    marks = torch.where(hidden, high, low).to(image.dtype).expand_as(image)
    return {**sample, "image": image, "source": torch.cat([torch.where(hidden, low, image), marks])}
