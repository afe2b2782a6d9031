"""``ddpm``: denoising diffusion in pixel space, 2D and 3D: unconditional, or given a class, mask or source image.

Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", with the cosine schedule of Nichol and Dhariwal
(2021, eq. 17) and labels dropped for classifier-free guidance (Ho and Salimans, 2022). Masks and source images are
concatenated to the noisy image, as in Palette (Saharia et al., 2022). Without them, the network is given how each image
was augmented (`AugmentationEmbedding`), so that samples are not. Without them, in 2D, the network is diffusers'
`UNet2DModel`, sampled by DPM-Solver++ (Lu et al., 2022); otherwise MONAI's `DiffusionModelUNet`, sampled by DDIM (Song,
Meng, Ermon, 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.sizes import fitting_sizes, size_option
from torchgenaug.recipes.batches import AUGMENTATION
from torchgenaug.recipes.data.training_data import UNLABELLED, TrainingData
from torchgenaug.recipes.families.augmented import AugmentationEmbedding, given_augmentation
from torchgenaug.recipes.families.monai_ddim import DDIM_STEPS, ddim_scheduler
from torchgenaug.recipes.families.objective import VelocityObjective
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import DiffusersSynthesizer, MonaiSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "ddpm": Family(
        "denoising diffusion in pixel space (Ho 2020): best quality and variety, slow to train and to sample",
        steps=4000,
        batch_size=16,
        conditions=(None, "label", "mask", "source"),
        dims=(2, 3),
        with_mask=True,
        unlabelled=True,
    )
}
LABEL_DROPOUT = 0.1


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for `data`.

    Raises:
        ConfigurationError: sizes that the network cannot halve.
    """
    return PixelDiffusion(data, options)


class PixelDiffusion:
    """A network that denoises images, or images and soft one-hot masks as further channels.

    diffusers' where it has one (2D, conditioned on nothing but a class), MONAI's otherwise.
    """

    averaged = frozenset({"unet"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        self.mask_classes = (data.num_mask_classes or 0) if options.with_mask else 0
        self.num_classes = data.num_classes if options.condition == "label" else None
        self.by_diffusers = data.spatial_dims == 2 and options.condition in (None, "label")
        channels, *spatial = data.image_shape
        made, given, width = channels + self.mask_classes, condition_channels(data, options), options.width or 16
        unet = (
            build_unet(made, spatial, width, self.num_classes)
            if self.by_diffusers
            else build_monai_unet(len(spatial), made + given, made, spatial, width, self.num_classes)
        )
        self.networks: Mapping[str, nn.Module] = {"unet": unet}
        if options.condition in (None, "label"):  # a mask or a source shows how the image was augmented
            self.networks = {**self.networks, AUGMENTATION: AugmentationEmbedding(len(spatial), unet)}
        self.steps = options.sampling_steps or (20 if self.by_diffusers else DDIM_STEPS)
        self.scheduler = _dpm_solver() if self.by_diffusers else ddim_scheduler(self.steps)
        self.objective = VelocityObjective(self.scheduler.alphas_cumprod)

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW, as in most published diffusion models."""
        return {"unet": denoiser_optimizer(nn.ModuleList(self.networks.values()), self.options)}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """One denoising step at a random time for every sample."""
        labels, unet = dropped_labels(batch, self.num_classes), self.networks["unet"]
        given = condition_maps(batch, self.data, self.options)

        def denoise(noisy: Tensor, time: Tensor) -> Tensor:
            velocity = unet(torch.cat([noisy, *given], 1), time, class_labels=labels)
            made: Tensor = velocity.sample if self.by_diffusers else velocity
            return made

        with given_augmentation(self.networks, unet, batch.get(AUGMENTATION)):
            loss = self.objective.loss(denoise, with_scores(batch, self.mask_classes))
        update({"unet": loss})
        return {"denoising": loss}

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> Synthesizer:
        """DPM-Solver++ of second order, 20 steps; or DDIM, 25 steps."""
        options, value_range = self.options, image_range(self.data)
        if self.by_diffusers:
            return DiffusersSynthesizer(
                networks["unet"],
                self.scheduler,
                steps=self.steps,
                guidance_scale=options.guidance_scale,
                value_range=value_range,
                clip=True,
                label_channels=self.mask_classes,
                null_class=self.num_classes,
            )
        return MonaiSynthesizer(
            networks["unet"],
            self.scheduler,
            size=self.data.image_shape[1:],
            steps=self.steps,
            guidance_scale=options.guidance_scale,
            value_range=value_range,
            clip=True,
            label_channels=self.mask_classes,
            null_class=self.num_classes,
            mask_classes=self.data.num_mask_classes if options.condition == "mask" else None,
            source=self.data.fields["source"] if options.condition == "source" else None,
        )


def image_range(data: TrainingData) -> tuple[float, float]:
    """The value range of the images."""
    return data.fields["image"].value_range or (0.0, 1.0)


def denoiser_optimizer(unet: nn.Module, options: Options) -> Optimizer:
    """AdamW, as in most published diffusion models."""
    rate = options.learning_rate or 1e-3
    # Fused: one pass over each weight, where plain AdamW makes ten small operations of each on a CPU.
    return AdamW(unet.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)


def dropped_labels(batch: Batch, num_classes: int | None) -> Tensor | None:
    """The labels, one in ten and all unknown ones replaced by the class `num_classes`, which stands for any."""
    if num_classes is None:
        return None
    labels = batch["label"]
    dropped = (torch.rand(len(labels), device=labels.device) < LABEL_DROPOUT) | (labels == UNLABELLED)
    return torch.where(dropped, num_classes, labels)


def with_scores(batch: Batch, mask_classes: int) -> Tensor:
    """The image, and its one-hot mask in {-1, 1} as further channels."""
    image = batch["image"]
    return torch.cat([image, _one_hot(batch["mask"], mask_classes) * 2 - 1], 1) if mask_classes else image


def condition_channels(data: TrainingData, options: Options) -> int:
    """How many channels `condition_maps` has."""
    if options.condition == "mask":
        return data.num_mask_classes or 0
    return data.fields["source"].shape[0] if options.condition == "source" else 0


def condition_maps(batch: Batch, data: TrainingData, options: Options) -> list[Tensor]:
    """What is concatenated to the noisy image: nothing, the one-hot mask, or the source in [-1, 1]."""
    if options.condition == "mask":
        return [_one_hot(batch["mask"], data.num_mask_classes or 0)]
    return [batch["source"]] if options.condition == "source" else []


def build_unet(channels: int, spatial: Sequence[int], width: int, num_classes: int | None) -> nn.Module:
    """A `UNet2DModel` whose smallest images are about 8 pixels wide, with attention there.

    Raises:
        ConfigurationError: sizes that cannot be halved that often.
    """
    levels = checked_levels(spatial)
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


def build_monai_unet(
    dims: int, in_channels: int, out_channels: int, spatial: Sequence[int], width: int, num_classes: int | None
) -> nn.Module:
    """The same as MONAI's `DiffusionModelUNet`, for `dims` dimensions."""
    levels = checked_levels(spatial)
    groups = math.gcd(width, 8)
    return build_network(
        "monai:DiffusionModelUNet",
        spatial_dims=dims,
        in_channels=in_channels,
        out_channels=out_channels,
        num_res_blocks=1,
        channels=[width * (level + 1) for level in range(levels)],
        attention_levels=[False] * (levels - 1) + [True],
        norm_num_groups=groups,
        num_head_channels=groups,
        num_class_embeds=None if num_classes is None else num_classes + 1,
    )


def levels_of(sizes: Sequence[float]) -> int:
    """How many resolutions a network for images of these sizes has, if they can be halved so often."""
    return max(2, round(math.log2(min(sizes) / 8)) + 1)


def checked_levels(spatial: Sequence[int], others: Sequence[int] = ()) -> int:
    """How many resolutions a network has whose smallest images are about 8 pixels wide.

    Args:
        spatial: sizes that are halved.
        others: further sizes of the images, which are not.

    Raises:
        ConfigurationError: sizes that cannot be halved that often.
    """
    levels, wanted = levels_of(spatial), fitting_sizes(spatial, lambda sizes: 2 ** (levels_of(sizes) - 1))
    if tuple(spatial) != wanted:
        raise ConfigurationError(
            f"The images must have sizes that can be halved {levels - 1} times, got {tuple(spatial)}. "
            f"Resize or pad them: {size_option((*wanted, *others))}"
        )
    return levels


def _one_hot(mask: Tensor, classes: int) -> Tensor:
    return nn.functional.one_hot(mask[:, 0], classes).movedim(-1, 1).float()


def _dpm_solver() -> Any:
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )
