"""``ddpm``: denoising diffusion in pixel space, unconditional or by class, images alone or together with their masks.

Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", with the cosine schedule of Nichol and Dhariwal
(2021, eq. 17), the v-objective of Salimans and Ho (2022, appendix D), weighted as in Hang et al. (2023, eq. 8, with
gamma = 5), labels dropped for classifier-free guidance (Ho and Salimans, 2022), and sampled by DPM-Solver++ (Lu et al.,
2022). The network is diffusers' `UNet2DModel`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data import TrainingData
from torchgenaug.recipes.recipe import Family, Options, Recipe, Update
from torchgenaug.synthesizers import DiffusersSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "ddpm": Family(
        "denoising diffusion in pixel space (Ho 2020): best quality and variety, slow to train and to sample",
        steps=4000,
        batch_size=16,
        conditions=(None, "label"),
        with_mask=True,
    )
}
_LABEL_DROPOUT = 0.1
_GAMMA = 5.0


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for 2D images.

    Raises:
        ConfigurationError: sizes that the network cannot halve.
    """
    return PixelDiffusion(data, options)


class PixelDiffusion:
    """A `UNet2DModel` that denoises images, or images and soft one-hot masks as further channels."""

    averaged = frozenset({"unet"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        self.mask_classes = (data.num_mask_classes or 0) if options.with_mask else 0
        self.num_classes = data.num_classes if options.condition == "label" else None
        channels, *spatial = data.image_shape
        self.networks: Mapping[str, nn.Module] = {
            "unet": build_unet(channels + self.mask_classes, spatial, options.width or 16, self.num_classes)
        }
        self.objective = VelocityObjective()

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW, as in most published diffusion models."""
        rate = self.options.learning_rate or 1e-3
        return {"unet": AdamW(self.networks["unet"].parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """One denoising step at a random time for every sample."""
        clean = batch["image"]
        if self.mask_classes:
            scores = nn.functional.one_hot(batch["mask"][:, 0], self.mask_classes).movedim(-1, 1)
            clean = torch.cat([clean, scores.to(clean.dtype) * 2 - 1], 1)
        labels = None
        if self.num_classes is not None:
            dropped = torch.rand(len(clean), device=clean.device) < _LABEL_DROPOUT
            labels = torch.where(dropped, self.num_classes, batch["label"])
        unet = self.networks["unet"]
        loss = self.objective.loss(lambda noisy, time: unet(noisy, time, class_labels=labels).sample, clean)
        update("unet", loss)
        return {"denoising": loss}

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> DiffusersSynthesizer:
        """DPM-Solver++ of second order."""
        from diffusers import DPMSolverMultistepScheduler

        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        return DiffusersSynthesizer(
            networks["unet"],
            DPMSolverMultistepScheduler(
                beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
            ),
            steps=self.options.sampling_steps or 20,
            guidance_scale=self.options.guidance_scale,
            value_range=(low, high),
            clip=True,
            label_channels=self.mask_classes,
            null_class=self.num_classes,
        )


class VelocityObjective:
    """The v-objective over the cosine schedule, with min-SNR weights."""

    def __init__(self) -> None:
        from diffusers import DDPMScheduler

        self.schedule: Any = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
        self.signal_to_noise = self.schedule.alphas_cumprod / (1 - self.schedule.alphas_cumprod)

    def loss(self, denoise: Any, clean: Tensor) -> Tensor:
        """Mean over samples of w(t) |v(x_t, t) - v|²; `denoise` is a function (noisy, int64 times (batch,)) → v."""
        time = torch.randint(len(self.signal_to_noise), (len(clean),), device=clean.device)
        noise = torch.randn_like(clean)
        velocity = denoise(self.schedule.add_noise(clean, noise, time), time).float()
        ratio = self.signal_to_noise.to(clean.device)[time]
        weight = ratio.clamp(max=_GAMMA) / (ratio + 1)
        errors = (velocity - self.schedule.get_velocity(clean, noise, time)).square().flatten(1).mean(1)
        mean: Tensor = (weight * errors).mean() / weight.mean()
        return mean


def build_unet(channels: int, spatial: list[int], width: int, num_classes: int | None) -> nn.Module:
    """A `UNet2DModel` whose smallest images are about 8 pixels wide, with attention there.

    Raises:
        ConfigurationError: sizes that cannot be halved that often.
    """
    levels = max(2, round(math.log2(min(spatial) / 8)) + 1)
    factor = 2 ** (levels - 1)
    if any(size % factor for size in spatial):
        wanted = [math.ceil(size / factor) * factor for size in spatial]
        raise ConfigurationError(
            f"The images must have sizes that can be halved {levels - 1} times, got {tuple(spatial)}. "
            f"Resize or pad them: --size {max(wanted)}"
        )
    groups = math.gcd(width, 8)
    return build_network(
        "diffusers:UNet2DModel",
        sample_size=list(spatial),
        in_channels=channels,
        out_channels=channels,
        block_out_channels=[width * (level + 1) for level in range(levels)],
        layers_per_block=1,
        norm_num_groups=groups,
        down_block_types=["DownBlock2D"] * (levels - 1) + ["AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D"] + ["UpBlock2D"] * (levels - 1),
        attention_head_dim=groups,
        num_class_embeds=None if num_classes is None else num_classes + 1,
    )
