"""``ldm``: latent diffusion, 2D and 3D: an autoencoder first, then denoising diffusion of its latents.

Rombach et al. (2022), "High-resolution image synthesis with latent diffusion models"; in 3D Pinaya et al. (2022),
"Brain imaging generation with latent diffusion models". The networks are MONAI's `AutoencoderKL` and
`DiffusionModelUNet`. The first half of the steps trains the autoencoder, on |x - x'|, a very small Kullback-Leibler
term and a critic of patches, as in Rombach et al. (2022), equation 25; the rest the denoiser, on latents of unit
variance.

What the denoiser learned is of the last autoencoder, which cannot be an average of weights; its rate falls to nearly 0
instead: with a constant one it was blurred. MONAI's encoder begins with a standard deviation of 1, which is more than
latents of different volumes differ by; it begins at ``exp(-3)`` here, for a slightly smaller error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.sizes import fitting_sizes, size_option
from torchgenaug.recipes.batches import AUGMENTATION, to_symmetric
from torchgenaug.recipes.data.training_data import TrainingData, spread_rows
from torchgenaug.recipes.families import adversarial
from torchgenaug.recipes.families.augmented import AugmentationEmbedding
from torchgenaug.recipes.families.ddpm import (
    build_monai_unet,
    denoiser_optimizer,
    dropped_labels,
    image_range,
    levels_of,
)
from torchgenaug.recipes.families.monai_ddim import DDIM_STEPS, ddim_scheduler
from torchgenaug.recipes.families.objective import VelocityObjective
from torchgenaug.recipes.families.pix2pix import patch_critic
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import MonaiSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "ldm": Family(
        "latent diffusion (Rombach 2022, Pinaya 2022): an autoencoder and a diffusion model of its latents; for large "
        "images and volumes",
        steps=4000,
        batch_size=8,
        conditions=(None, "label"),
        dims=(2, 3),
        settings={
            "adversarial": Setting(0.02, "weight of a critic of what the autoencoder rebuilds: sharper images", low=0)
        },
        unlabelled=True,
    )
}
_AUTOENCODER_SHARE = 0.5
_AUTOENCODER_RATE, _LAST_RATE = 5e-4, 0.02  # the last one as a share of the first
_KL_WEIGHT = 1e-8
_FIRST_LOG_VARIANCE = -6.0
_HALVINGS = 2  # of the autoencoder
_NUM_MEASURED = 64


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for `data`.

    Raises:
        ConfigurationError: see `check_sizes`.
    """
    check_sizes(data.image_shape[1:])
    return LatentDiffusion(data, options)


def check_sizes(spatial: Sequence[int]) -> None:
    """Raises `ConfigurationError` for sizes that autoencoder and denoiser cannot halve as often as they do."""

    def halvings(sizes: Sequence[int]) -> int:
        return _HALVINGS + levels_of([size / 2**_HALVINGS for size in sizes]) - 1

    wanted = fitting_sizes(spatial, lambda sizes: 2 ** halvings(sizes))
    if tuple(spatial) != wanted:
        raise ConfigurationError(
            f"The images must have sizes that can be halved {halvings(spatial)} times, got {tuple(spatial)}. Resize or "
            f"pad them: {size_option(wanted)}"
        )


class LatentScale(nn.Module):
    """The number that latents are multiplied by; kept with the weights, so that a resume has it."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))


class LatentDiffusion:
    """An autoencoder that makes images four times smaller along each axis, and a denoiser of its latents."""

    averaged = frozenset({"unet"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        self.num_classes = data.num_classes if options.condition == "label" else None
        channels, *spatial = data.image_shape
        width = options.width or 16
        latent_channels = options.latent_dim or 4
        groups = math.gcd(width, 8)
        latent = [size // 2**_HALVINGS for size in spatial]
        self.scale = LatentScale()
        self.networks: Mapping[str, nn.Module] = {
            "autoencoder": build_network(
                "monai:AutoencoderKL",
                spatial_dims=len(spatial),
                in_channels=channels,
                out_channels=channels,
                num_res_blocks=[1, 1, 1],
                channels=[width, 2 * width, 2 * width],
                attention_levels=[False, False, False],
                latent_channels=latent_channels,
                norm_num_groups=groups,
                with_encoder_nonlocal_attn=False,
                with_decoder_nonlocal_attn=False,
            ),
            "unet": build_monai_unet(
                len(spatial), latent_channels, latent_channels, latent, 2 * width, self.num_classes
            ),
            "scale": self.scale,
        }
        # MONAI's networks name their layers; nn.Module's type does not know them.
        log_variance: Any = self.networks["autoencoder"].quant_conv_log_sigma
        nn.init.constant_(log_variance.conv.bias, _FIRST_LOG_VARIANCE)
        embedding = AugmentationEmbedding(len(spatial), self.networks["unet"])
        self.networks = {**self.networks, AUGMENTATION: embedding}
        self.adversarial = float(options.settings["adversarial"])
        if self.adversarial:
            self.networks = {**self.networks, "critic": patch_critic(data, channels, width)}
        self.steps = options.sampling_steps or DDIM_STEPS
        self.scheduler = ddim_scheduler(self.steps)
        self.objective = VelocityObjective(self.scheduler.alphas_cumprod)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for the autoencoder and its critic, AdamW for the denoiser."""
        rate = self.options.learning_rate or _AUTOENCODER_RATE
        self._adam = Adam(self.networks["autoencoder"].parameters(), lr=rate)
        optimizers: dict[str, Optimizer] = {
            "autoencoder": self._adam,
            "unet": denoiser_optimizer(
                nn.ModuleList(self.networks[name] for name in ("unet", AUGMENTATION)), self.options
            ),
        }
        if self.adversarial:
            optimizers["critic"] = Adam(self.networks["critic"].parameters(), lr=rate, betas=(0.5, 0.99))
        return optimizers

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """One step of the autoencoder, or later of the denoiser."""
        if progress < _AUTOENCODER_SHARE:
            done = (1 - math.cos(math.pi * progress / _AUTOENCODER_SHARE)) / 2
            for group in self._adam.param_groups:
                group["lr"] = (self.options.learning_rate or _AUTOENCODER_RATE) * (1 - (1 - _LAST_RATE) * done)
            return self._autoencoder_step(batch["image"], update)
        return self._denoiser_step(batch, update)

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> Synthesizer:
        """DDIM, 25 steps."""
        return MonaiSynthesizer(
            networks["unet"],
            self.scheduler,
            size=self.data.image_shape[1:],
            autoencoder=networks["autoencoder"],
            scale_factor=float(self.scale.value) or 1.0,
            steps=self.steps,
            guidance_scale=self.options.guidance_scale,
            null_class=self.num_classes,
            value_range=image_range(self.data),
            clip=True,
        )

    def _autoencoder_step(self, images: Tensor, update: Update) -> dict[str, Tensor]:
        rebuilt, mean, deviation = self.networks["autoencoder"](images)
        error = (rebuilt.float() - images).abs().mean()
        square_mean, square = mean.float().square(), deviation.float().square()
        divergence = 0.5 * (square_mean + square - square.clamp(min=1e-12).log() - 1).flatten(1).sum(1).mean()
        losses = {"reconstruction": error, "divergence": divergence}
        if not self.adversarial:
            update({"autoencoder": error + _KL_WEIGHT * divergence})
            return losses
        critic = self.networks["critic"]
        losses["realism"] = self.adversarial * adversarial.real_loss(critic(rebuilt)[-1])
        update({"autoencoder": error + _KL_WEIGHT * divergence + losses["realism"]})
        losses["critic"] = adversarial.real_loss(critic(images)[-1])
        losses["critic"] = losses["critic"] + adversarial.fake_loss(critic(rebuilt.detach())[-1])
        update({"critic": losses["critic"]})
        return losses

    def _denoiser_step(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        # MONAI's networks name their methods; nn.Module's type does not know them.
        autoencoder: nn.Module = self.networks["autoencoder"].eval()
        with torch.no_grad():
            mean, deviation = autoencoder.encode(batch["image"])  # type: ignore[operator]
            latents = mean.float() + deviation.float() * torch.randn_like(mean.float())
            if not self.scale.value:
                self.scale.value.copy_(1 / self._latent_spread())
        labels, unet = dropped_labels(batch, self.num_classes), self.networks["unet"]
        embedding: Any = self.networks[AUGMENTATION]
        with embedding.given(unet, batch.get(AUGMENTATION)):
            loss = self.objective.loss(
                lambda noisy, time: unet(noisy, time, class_labels=labels), latents * self.scale.value
            )
        update({"unet": loss})
        return {"denoising": loss}

    @torch.no_grad()
    def _latent_spread(self) -> Tensor:
        """Standard deviation of the latents of training images, the same ones in every process."""
        autoencoder, spec = self.networks["autoencoder"], self.data.fields["image"]
        rows = spread_rows(len(self.data), _NUM_MEASURED)
        images = (to_symmetric(self.data.samples[row]["image"][None], spec).to(self.scale.value.device) for row in rows)
        return torch.cat([autoencoder.encode(image)[0].float() for image in images]).std()  # type: ignore[operator]
