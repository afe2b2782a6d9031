"""``pix2pix`` and ``spade``: from a mask, or from an image of another modality, to the image that belongs to it.

- ``pix2pix``: Isola, Zhu, Zhou, Efros (2017): a U-Net, judged by its distance to the true image and by a critic of
  patches. Where a source image says nearly everything, the distance counts most; a mask leaves more to the latents.
- ``spade``: Park, Liu, Wang, Zhu (2019): the mask modulates every layer, and latents decide the rest. The distance is
  one between features of the critic (Wang et al., 2018, "High-resolution image synthesis and semantic manipulation
  with conditional GANs", section 3.3), which does not punish another texture.

Settings of ``pix2pix`` add what translators of medical images use in addition: perceptual and style losses
(`feature_losses`; MedGAN), and a second critic that sees the whole image (Lan et al., 2021, GLA-GAN).

A second image from other latents keeps them from being ignored: Mao et al. (2019), "Mode seeking generative adversarial
networks for diverse image synthesis", eq. 5, as a bounded ratio.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada, adversarial, feature_losses
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "pix2pix": Family(
        "paired translation (Isola 2017): mask or source image to image, one network call a sample",
        steps=3000,
        batch_size=4,
        conditions=("mask", "source"),
        dims=(2, 3),
        settings={
            **ada.settings(default=False),
            **feature_losses.SETTINGS,
            "global_critic": Setting(False, "a second critic, of whole images, next to that of patches (GLA-GAN)"),
        },
    ),
    "spade": Family(
        "mask to image (Park 2019): the mask modulates every layer, latents decide the look",
        steps=3000,
        batch_size=8,
        conditions=("mask",),
        dims=(2, 3),
        settings=ada.settings(default=False),
    ),
}
_DISTANCE_WEIGHTS = {("pix2pix", "mask"): 25.0, ("pix2pix", "source"): 50.0, ("spade", "mask"): 10.0}
_VARIETY_WEIGHT = 0.1
_LATENT_DIM = {"pix2pix": 16, "spade": 32}


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the networks cannot halve.
    """
    return PairedTranslation(family, data, options)


class PairedTranslation:
    """Trains a generator from condition to image, and a critic on pairs of condition and image."""

    averaged = frozenset({"generator"})

    def __init__(self, family: str, data: TrainingData, options: Options) -> None:
        self.family, self.data, self.options = family, data, options
        settings = options.settings
        self.condition = "source" if options.condition == "source" else "mask"
        self.mask_classes = data.num_mask_classes if self.condition == "mask" else None
        self.latent_dim = options.latent_dim or _LATENT_DIM[family]
        shape, width = list(data.image_shape), options.width or 16
        condition = self.mask_classes or data.fields["source"].shape[0]
        self.networks: Mapping[str, nn.Module] = {
            "generator": build_network(
                "torchgenaug:TranslationUNet",
                in_channels=condition,
                shape=shape,
                width=width,
                latent_dim=self.latent_dim,
            )
            if family == "pix2pix"
            else build_network(
                "torchgenaug:SpadeGenerator",
                latent_dim=self.latent_dim,
                mask_classes=condition,
                shape=shape,
                width=max(1, width // 2),
            ),
            "critic": patch_critic(data, condition + shape[0], width),
            **(
                {
                    "global_critic": build_network(
                        "torchgenaug:Critic", shape=[condition + shape[0], *shape[1:]], width=width
                    )
                }
                if settings.get("global_critic")
                else {}
            ),
            **ada.augmentation(self.options),
        }

        self.feature_losses = feature_losses.FeatureLosses(settings, shape) if family == "pix2pix" else None

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as Isola (2017); the rate suits short training."""
        rate = self.options.learning_rate or 5e-4
        trained = {"generator": ("generator",), "critic": ("critic", "global_critic")}
        return {
            name: Adam(
                [each for part in parts if part in self.networks for each in self.networks[part].parameters()],
                lr=rate,
                betas=(0.5, 0.99),
            )
            for name, parts in trained.items()
        }

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The critic on a real and a generated pair, then the generator."""
        real, condition = batch["image"], self._condition(batch)
        generator, critic = self.networks["generator"], self.networks["critic"]
        noise = torch.randn((2 * len(real), self.latent_dim), device=real.device)
        fake, other = generator(noise, torch.cat([condition, condition])).chunk(2)
        shown_real, shown_fake = self._shown(condition, real, fake.detach())
        real_scores = critic(shown_real)[-1]
        self._observe(real_scores)
        losses = {"critic": adversarial.real_loss(real_scores) + adversarial.fake_loss(critic(shown_fake)[-1])}
        whole = self.networks.get("global_critic")
        if whole is not None:
            losses["global_critic"] = adversarial.real_loss(whole(shown_real)[0])
            losses["global_critic"] = losses["global_critic"] + adversarial.fake_loss(whole(shown_fake)[0])
        update({"critic": torch.stack(list(losses.values())).sum()})
        shown_real, shown_fake = self._shown(condition, real, fake)
        seen = critic(shown_fake)
        made = {"generator": adversarial.real_loss(seen[-1])}
        if whole is not None:
            made["generator_whole"] = adversarial.real_loss(whole(shown_fake)[0])
        if self.feature_losses is not None:
            distance = functional.l1_loss(fake, real)
            made |= self.feature_losses(real, fake, lambda: critic(shown_real)[:-1], seen[:-1])
        else:
            with torch.no_grad():
                wanted = critic(shown_real)
            distance = feature_losses.mean_distance(zip(seen[:-1], wanted[:-1], strict=True))
        made["distance_to_real"] = _DISTANCE_WEIGHTS[self.family, self.condition] * distance
        made["sameness"] = _VARIETY_WEIGHT * adversarial.sameness(fake, other, noise)
        update({"generator": torch.stack(list(made.values())).sum()})
        return losses | made

    def _shown(self, condition: Tensor, real: Tensor, fake: Tensor) -> list[Tensor]:
        """Condition and image together, as the critic sees them: real and generated ones in the same way."""
        if "ada" in self.networks:
            together = self.networks["ada"](torch.cat([condition, real, fake], 1), first=condition.shape[1])
            condition, real, fake = together.split([condition.shape[1], real.shape[1], fake.shape[1]], 1)
        return [torch.cat([condition, images], 1) for images in (real, fake)]

    def _observe(self, real_scores: Tensor) -> None:
        if "ada" in self.networks:
            augment: Any = self.networks["ada"]
            augment.observe(real_scores)

    def _condition(self, batch: Batch) -> Tensor:
        if self.mask_classes is None:
            return batch["source"]
        return functional.one_hot(batch["mask"][:, 0], self.mask_classes).movedim(-1, 1).to(batch["image"].dtype)

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the generator."""
        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        ranges = {"value_range": [low, high]}
        if self.mask_classes is None:
            ranges["source_range"] = list(self.data.fields["source"].value_range or (0.0, 1.0))
        return ModuleSynthesizer(
            adversarial.with_ranges(networks["generator"], **ranges),
            latent_shape=(self.latent_dim,),
            condition="mask" if self.mask_classes else "source",
            condition_spec=self.data.fields[self.condition],
            num_classes=self.mask_classes,
            value_range=(low, high),
        )


def patch_critic(data: TrainingData, channels: int, width: int) -> nn.Module:
    """MONAI's critic of patches of 34 pixels a side, of 16 for images smaller than 32."""
    return build_network(
        "monai:PatchDiscriminator",
        spatial_dims=data.spatial_dims,
        channels=width,
        in_channels=channels,
        num_layers_d=2 if min(data.image_shape[1:]) >= 32 else 1,
        norm="INSTANCE",
    )
