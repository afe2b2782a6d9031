"""``two-stage-vae``: a VAE of masks, and a VAE of images given a mask: lesions and their annotation from nothing.

As the two stages of Huo et al. (2022), "Brain lesion synthesis via progressive adversarial variational auto-encoder",
and of Guibas, Virdi, Li (2017), "Synthetic medical images from dual generative adversarial networks". The first stage
is a VAE of label maps with cross-entropy; the second a conditional VAE (Sohn, Lee, Yan, 2015) whose decoder is the
generator of ``pix2pix``, with a critic of patches. Their losses share nothing, so they are trained side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.batches import AUGMENTATION
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import adversarial
from torchgenaug.recipes.families.augmented import MovedAlike
from torchgenaug.recipes.families.latent_losses import divergence, drawn, squared_error
from torchgenaug.recipes.families.pix2pix import patch_critic
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import ModuleSynthesizer, TwoStageSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "two-stage-vae": Family(
        "a VAE of masks, then one of images given the mask (Huo 2022): makes both",
        steps=3000,
        batch_size=16,
        dims=(2, 3),
        with_mask=True,
        settings={
            "adversarial": Setting(1.0, "weight of the critic of the images; 0: none, smoother images", low=0),
            "reconstruction": Setting(50.0, "weight of the images' squared error relative to the divergence", low=0),
        },
    )
}
_LATENT_DIM = 16


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes with masks.

    Raises:
        ConfigurationError: data without masks, a width that is no multiple of 4, sizes that cannot be halved.
    """
    if "mask" not in data.fields:
        raise ConfigurationError(
            f"The data must have 'mask' for {family}, got {', '.join(data.fields)} from {data.name!r}. Without masks, "
            "vae and introvae make images alone."
        )
    return TwoStageVAE(data, options)


class TwoStageVAE:
    """Encoder and decoder of masks; encoder, decoder and critic of images."""

    averaged = frozenset({"mask_decoder", "image_decoder"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.weights = {name: float(value) for name, value in options.settings.items()}
        self.data, self.options = data, options
        self.classes, self.latent_dim = data.num_mask_classes or 0, options.latent_dim or _LATENT_DIM
        image, width = list(data.image_shape), options.width or 16
        mask = [self.classes, *image[1:]]
        common: dict[str, Any] = {"latent_dim": self.latent_dim, "width": width}
        self.networks: Mapping[str, nn.Module] = {
            "mask_encoder": build_network("torchgenaug:GaussianEncoder", shape=mask, **common),
            "mask_decoder": build_network("torchgenaug:LatentDecoder", shape=mask, value_range=None, **common),
            "image_encoder": build_network(
                "torchgenaug:GaussianEncoder", shape=[image[0] + self.classes, *image[1:]], **common
            ),
            "image_decoder": build_network(
                "torchgenaug:TranslationUNet", in_channels=self.classes, shape=image, **common
            ),
            "critic": patch_critic(data, image[0] + self.classes, width),
            AUGMENTATION: MovedAlike(),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, one for each stage and one for the critic."""
        rate, networks = self.options.learning_rate or 1e-3, self.networks
        groups = {"masks": ("mask_encoder", "mask_decoder"), "images": ("image_encoder", "image_decoder")}
        both = {
            name: Adam([each for part in parts for each in networks[part].parameters()], lr=rate)
            for name, parts in groups.items()
        }
        return {**both, "critic": Adam(networks["critic"].parameters(), lr=rate / 2, betas=(0.5, 0.99))}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """A step of the masks, one of the images and one of the critic."""
        real = batch["image"]
        mask = functional.one_hot(batch["mask"][:, 0], self.classes).movedim(-1, 1).to(real.dtype)
        losses = {"masks": self._mask_loss(mask, batch["mask"][:, 0], batch.get(AUGMENTATION))}
        update({"masks": losses["masks"]})
        mean, log_variance = self.networks["image_encoder"](torch.cat([real, mask], 1))
        rebuilt = self.networks["image_decoder"](drawn(mean, log_variance), mask)
        error = self.weights["reconstruction"] * squared_error(real, rebuilt)
        losses["images"] = (error + divergence(mean, log_variance)).mean() / real[0].numel()
        critic, weight = self.networks["critic"], self.weights["adversarial"]
        if weight:
            # From the prior, as samples are; what is rebuilt is judged by its error.
            made = self.networks["image_decoder"](torch.randn_like(mean), mask)
            losses["realism"] = weight * adversarial.real_loss(critic(torch.cat([mask, made], 1))[-1])
            update({"images": losses["images"] + losses["realism"]})
            losses["critic"] = adversarial.real_loss(critic(torch.cat([mask, real], 1))[-1])
            losses["critic"] = losses["critic"] + adversarial.fake_loss(critic(torch.cat([mask, made.detach()], 1))[-1])
            update({"critic": losses["critic"]})
        else:
            update({"images": losses["images"]})
        return losses

    def _mask_loss(self, mask: Tensor, classes: Tensor, moves: Tensor | None) -> Tensor:
        """The negative evidence bound per pixel: cross-entropy and divergence; scores are moved as the masks were."""
        mean, log_variance = self.networks["mask_encoder"](mask)
        scores = self.networks[AUGMENTATION](self.networks["mask_decoder"](drawn(mean, log_variance)), moves)
        error = functional.cross_entropy(scores, classes, reduction="none").flatten(1).sum(1)
        return (error + divergence(mean, log_variance)).mean() / classes[0].numel()

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> TwoStageSynthesizer:
        """The mask decoder, then the image decoder, each on standard normal latents."""
        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        masks = ModuleSynthesizer(
            networks["mask_decoder"],
            latent_shape=(self.latent_dim,),
            makes="mask",
            value_range=(0, self.classes - 1),
        )
        images = ModuleSynthesizer(
            adversarial.with_ranges(networks["image_decoder"], value_range=[low, high]),
            latent_shape=(self.latent_dim,),
            condition="mask",
            condition_spec=self.data.fields["mask"],
            num_classes=self.classes,
            value_range=(low, high),
        )
        return TwoStageSynthesizer(masks, images)
