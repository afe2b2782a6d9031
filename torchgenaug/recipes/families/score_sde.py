"""``score-sde``: a score model in continuous time, with its predictor and corrector (Song et al., 2021).

Variance preserving (the default) or exploding noise, ``--set equation=ve``. The network predicts the velocity, with
equal weights at all times (Salimans and Ho, 2022), where theirs predicts the noise. How many steps are taken is free at
sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from torchgenaug.nets.score_sde import LAST_TIME
from torchgenaug.recipes.batches import AUGMENTATION, to_symmetric
from torchgenaug.recipes.data.training_data import TrainingData, spread_rows
from torchgenaug.recipes.families.augmented import AugmentationEmbedding, given_augmentation
from torchgenaug.recipes.families.conditioned import condition_of, module_synthesizer, unet_arguments
from torchgenaug.recipes.families.ddpm import denoiser_optimizer
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "score-sde": Family(
        "score-based diffusion in continuous time (Song 2021), predictor-corrector sampling: slow to sample",
        steps=4000,
        batch_size=16,
        conditions=(None, "label", "mask", "source"),
        dims=(2, 3),
        settings={
            "equation": Setting("vp", "noise: variance preserving or exploding", choices=("vp", "ve")),
            "corrector": Setting(True, "a step of Langevin dynamics after each step of the predictor"),
        },
    )
}
_NUM_COMPARED = 64


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the network cannot halve.
    """
    return ScoreModel(data, options)


class ScoreModel:
    """A network that predicts the velocity at any time."""

    averaged = frozenset({"sampler"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        self.equation = str(options.settings["equation"])
        self.networks: Mapping[str, nn.Module] = {
            "sampler": build_network(
                "torchgenaug:ScoreSampler",
                shape=list(data.image_shape),
                unet=unet_arguments(data, options),
                equation=self.equation,
                sigma_max=_largest_distance(data) if self.equation == "ve" else 1.0,
                steps=options.sampling_steps or 50,
                corrector=options.settings["corrector"],
                prediction="velocity",
            )
        }
        if options.condition in (None, "label"):  # a mask or a source shows how the image was augmented
            embedding = AugmentationEmbedding(data.spatial_dims, self._sampler.network.unet)
            self.networks = {**self.networks, AUGMENTATION: embedding}

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW, as for ``ddpm``."""
        return {"sampler": denoiser_optimizer(nn.ModuleList(self.networks.values()), self.options)}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The error of the velocity at a random time for every sample."""
        image, sampler = batch["image"], self._sampler
        first = LAST_TIME[self.equation]
        time = first + (1 - first) * torch.rand(len(image), device=image.device)
        noise = torch.randn_like(image)
        alpha, sigma = sampler.level(time, image.ndim)
        condition = condition_of(batch, self.data, self.options)
        with given_augmentation(self.networks, sampler.network.unet, batch.get(AUGMENTATION)):
            made = sampler.predicted(alpha * image + sigma * noise, time, condition)
        loss = functional.mse_loss(made.float(), sampler.target(image, noise, time))
        update({"sampler": loss})
        return {"denoising": loss}

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """The sampler, all of whose random numbers are its latents."""
        return module_synthesizer(networks["sampler"], self.data, self.options)

    @property
    def _sampler(self) -> Any:
        return self.networks["sampler"]


def _largest_distance(data: TrainingData) -> float:
    """Between images in [-1, 1], of a few: what the strongest noise must cover."""
    spec = data.fields["image"]
    rows = spread_rows(len(data), _NUM_COMPARED)
    images = torch.stack([to_symmetric(data.samples[row]["image"], spec).flatten() for row in rows])
    return max(2.0, float(torch.cdist(images, images).max()))
