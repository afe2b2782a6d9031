"""``cut``: from one modality to another without pairs, one generator and no way back.

Park, Efros, Zhang, Zhu (2020), "Contrastive learning for unpaired image-to-image translation": a patch of the
translation must be more like the patch of the source at its own place than like patches elsewhere in that source (their
eq. 4), in the features of the generator's own encoder; target images are to stay what they are in the same sense
(section 3). That they keep their intensities is from Zhu et al. (2017), section 5.2: patches that are compared by
angles in a space of features leave the range of intensities open, and one run in two left it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada
from torchgenaug.recipes.families.cyclegan import source_synthesizer, unpaired
from torchgenaug.recipes.families.pix2pix import patch_critic
from torchgenaug.recipes.families.structure import STRUCTURE, edge_distance
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "cut": Family(
        "unpaired translation by contrast of patches (Park 2020): one generator, a third of the work of cyclegan",
        steps=4000,
        batch_size=4,
        conditions=("source",),
        dims=(2, 3),
        settings={**ada.settings(default=False), **STRUCTURE},
    )
}
_PATCHES, _TEMPERATURE, _PROJECTED = 128, 0.07, 64
_CONTRAST_WEIGHT, _IDENTITY_WEIGHT = 1.0, 5.0


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the networks cannot halve, or modalities with different numbers of channels.
    """
    return ContrastiveTranslation(data, options)


class ContrastiveTranslation:
    """A generator, projections of its features, and a critic."""

    averaged = frozenset({"to_image"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        width, image, source = options.width or 16, list(data.image_shape), data.fields["source"].shape
        if source[0] != image[0]:
            raise ConfigurationError(
                f"`source` must have the channels of the image for cut, {image[0]}, got {source[0]}. Its encoder looks "
                "at both. Use cyclegan."
            )
        generator: Any = build_network("torchgenaug:TranslationUNet", in_channels=image[0], shape=image, width=width)
        with torch.no_grad():
            levels = generator.encode(torch.zeros(1, *image))
        self.networks: Mapping[str, nn.Module] = {
            "to_image": generator,
            "projections": nn.ModuleList(_projection(each.shape[1]) for each in levels),
            "critic": patch_critic(data, image[0], width),
            **ada.augmentation(options),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as Park (2020); the rate suits short training."""
        rate, networks = self.options.learning_rate or 5e-4, self.networks
        learners = {"generator": ("to_image", "projections"), "critic": ("critic",)}
        return {
            name: Adam([each for part in parts for each in networks[part].parameters()], lr=rate, betas=(0.5, 0.99))
            for name, parts in learners.items()
        }

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The generator, then the critic."""
        image, source = unpaired(batch)
        generator, critic = self.networks["to_image"], self.networks["critic"]
        fake, same = generator(source), generator(image)
        losses = {
            "generator": (critic(ada.shown(self.networks, fake))[-1] - 1).square().mean(),
            "patches": _CONTRAST_WEIGHT * self._contrast(fake, source),
            "identity": _CONTRAST_WEIGHT * self._contrast(same, image)
            + _IDENTITY_WEIGHT * functional.l1_loss(same, image),
        }
        weight = float(self.options.settings["structure"])
        if weight:
            losses["structure"] = weight * edge_distance(fake, source)
        update({"generator": torch.stack(list(losses.values())).sum()})
        real_scores = critic(ada.shown(self.networks, image))[-1]
        ada.observe(self.networks, real_scores, middle=0.5)
        fake_scores = critic(ada.shown(self.networks, fake.detach()))[-1]
        losses["critic"] = 0.5 * ((real_scores - 1).square().mean() + fake_scores.square().mean())
        update({"critic": losses["critic"]})
        return losses

    def _contrast(self, made: Tensor, given: Tensor) -> Tensor:
        """Cross-entropy of finding the place of each patch of `made` among patches of `given` (Park, eq. 3 and 4)."""
        encode: Any = self.networks["to_image"].encode
        losses = []
        for ours, theirs, project in zip(encode(made), encode(given), self._projections(), strict=True):
            places = torch.randperm(ours[0, 0].numel(), device=ours.device)[:_PATCHES]
            queries, keys = (project(each.flatten(2)[..., places].movedim(1, 2)) for each in (ours, theirs))
            queries, keys = functional.normalize(queries, dim=-1), functional.normalize(keys, dim=-1)
            scores = queries @ keys.detach().movedim(1, 2) / _TEMPERATURE
            own = torch.arange(len(places), device=ours.device).expand(len(scores), -1)
            losses.append(functional.cross_entropy(scores.movedim(1, 2), own))
        return torch.stack(losses).mean()

    def _projections(self) -> Sequence[nn.Module]:
        return list(self.networks["projections"].children())

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the generator; it has no latents."""
        return source_synthesizer(networks["to_image"], self.data)


def _projection(channels: int) -> nn.Module:
    return nn.Sequential(nn.Linear(channels, _PROJECTED), nn.ReLU(), nn.Linear(_PROJECTED, _PROJECTED))
