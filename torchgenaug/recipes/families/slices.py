"""``slices``: volumes from a 2D diffusion model of their slices, each conditioned on the slice before it.

A 2.5D recipe: the network is a 2D one, so a step costs what 2D costs, and a volume gives as many images as it has
slices; see `SliceSampler`. The slice before is given with a little noise (Ho et al., 2022, "Cascaded diffusion models
for high fidelity image generation", section 4: conditioning augmentation), since sampling makes it, with errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from torchgenaug.nets.slice_sampler import MORE_CHANNELS
from torchgenaug.recipes.batches import AUGMENTATION
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families.augmented import AugmentationEmbedding, given_augmentation
from torchgenaug.recipes.families.conditioned import condition_of, module_synthesizer, unet_arguments
from torchgenaug.recipes.families.ddpm import denoiser_optimizer
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "slices": Family(
        "volumes from a 2D diffusion model, each slice given the one before it (2.5D): slow to sample",
        steps=4000,
        batch_size=2,
        conditions=(None, "mask", "source"),
        dims=(3,),
        settings={
            # 0: the network learns from noise that says nothing about the slice before. With 0.5 distances were 0.94 to
            # 1.13 times as large in four trainings of 60 CPU seconds, in three of them larger.
            "shared_noise": Setting(0.0, "part of the noise that the slices of a volume share", low=0.0, high=1.0),
            "slices_per_volume": Setting(8, "slices of each volume that a step trains on", low=1),
        },
    )
}
_MOST_NOISE = 0.2  # deviation of the noise on the slice before
_MOST_SHIFT = 0.3
"""Of the brightness and contrast of the slice before, so that it does not decide those of the next: volumes drifted."""


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for volumes, whose last axis numbers the slices.

    Raises:
        ConfigurationError: slices that the network cannot halve.
    """
    return SliceDiffusion(data, options)


class SliceDiffusion:
    """A network that denoises slices, given the ones before them."""

    averaged = frozenset({"sampler"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        more = data.image_shape[0] + MORE_CHANNELS
        self.networks: Mapping[str, nn.Module] = {
            "sampler": build_network(
                "torchgenaug:SliceSampler",
                shape=list(data.image_shape),
                unet=unet_arguments(data, options, more_channels=more, sliced=True),
                steps=options.sampling_steps or 10,
                shared=options.settings["shared_noise"],
            )
        }
        if options.condition is None:  # a mask or a source shows how the volume was augmented
            embedding = AugmentationEmbedding(data.spatial_dims, self._sampler.network.unet)
            self.networks = {**self.networks, AUGMENTATION: embedding}

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW, as for ``ddpm``."""
        return {"sampler": denoiser_optimizer(nn.ModuleList(self.networks.values()), self.options)}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The error of v in random slices at random times."""
        volumes, count = batch["image"], int(self.options.settings["slices_per_volume"])
        rows = torch.arange(len(volumes), device=volumes.device).repeat_interleave(count)
        place = torch.randint(volumes.shape[-1], (len(rows),), device=volumes.device)
        clean, before = _slices(volumes, rows, place), _slices(volumes, rows, (place - 1).clamp(min=0))
        amount = _MOST_NOISE * torch.rand((len(rows), 1, 1, 1), device=volumes.device)
        before = before + amount * torch.randn_like(before)
        gain, offset = (_MOST_SHIFT * (2 * torch.rand_like(amount) - 1) for _ in range(2))
        before = (before + 1) * (1 + gain) - 1 + offset
        condition = condition_of(batch, self.data, self.options)
        given = None if condition is None else _slices(condition, rows, place)
        time = torch.rand(len(rows), device=volumes.device)
        angle = (time * math.pi / 2).view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = angle.cos() * clean + angle.sin() * noise
        wanted = angle.cos() * noise - angle.sin() * clean
        drawn = batch.get(AUGMENTATION)
        sampler = self._sampler
        with given_augmentation(self.networks, sampler.network.unet, None if drawn is None else drawn[rows]):
            made = sampler.velocity(noisy, time, before, place, given)
        loss = functional.mse_loss(made.float(), wanted)
        update({"sampler": loss})
        return {"denoising": loss}

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """The sampler, all of whose random numbers are its latents."""
        return module_synthesizer(networks["sampler"], self.data, self.options)

    @property
    def _sampler(self) -> Any:
        return self.networks["sampler"]


def _slices(volumes: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Slices (len(rows), channels, rows, columns) of volumes (batch, channels, rows, columns, slices)."""
    return volumes.movedim(-1, 1)[rows, places]
