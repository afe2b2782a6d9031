"""``ddgan``: denoising diffusion GAN, an image in 2 to 8 large steps (Xiao, Kreis, Vahdat, 2022).

With a source image it is the adversarial diffusion of SynDiff (Özbey et al., 2023, "Unsupervised medical image
translation with adversarial diffusion models", section III-B), trained on pairs: its cycle for unpaired images is left
out, and the distance to the true image, which a pair makes known, is added (as in pix2pix).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.gan import halvings_of
from torchgenaug.nets.noise_levels import posterior_step
from torchgenaug.recipes.batches import AUGMENTATION
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada, adversarial
from torchgenaug.recipes.families.augmented import AugmentationEmbedding, MovedAlike, given_augmentation
from torchgenaug.recipes.families.conditioned import condition_of, module_synthesizer, unet_arguments
from torchgenaug.recipes.families.ddpm import condition_channels
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "ddgan": Family(
        "denoising diffusion GAN (Xiao 2022): an image in 4 steps; with a source image SynDiff's translation, on pairs",
        steps=4000,
        batch_size=16,
        conditions=(None, "label", "mask", "source"),
        dims=(2, 3),
        settings=ada.settings(default=False),
    )
}
_STEPS = (2, 8)
_R1_WEIGHT, _DISTANCE_WEIGHT = 0.2, 10.0


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the networks cannot halve, or too many steps.
    """
    steps = options.sampling_steps or 4
    if not _STEPS[0] <= steps <= _STEPS[1]:
        raise ConfigurationError(
            f"`sampling_steps` must be from {_STEPS[0]} to {_STEPS[1]} for {family}, got {steps}. Its steps are large, "
            "and are chosen before the training. For many small steps use ddpm."
        )
    halvings_of(data.image_shape[1:])  # of the critic: sizes that suit it suit the generator, but not the reverse
    return DiffusionGAN(data, options, steps)


class DiffusionGAN:
    """A generator of clean images from noisy ones, and a critic of single steps."""

    averaged = frozenset({"generator"})

    def __init__(self, data: TrainingData, options: Options, steps: int) -> None:
        self.data, self.options, self.steps = data, options, steps
        self.latent_dim = options.latent_dim or 8
        self.num_classes = (data.num_classes or 1) if options.condition == "label" else 1
        channels, *spatial = data.image_shape
        self.networks: Mapping[str, nn.Module] = {
            "generator": build_network(
                "torchgenaug:AdversarialDenoiser",
                shape=[channels, *spatial],
                unet=unet_arguments(data, options, more_channels=self.latent_dim),
                latent_dim=self.latent_dim,
                steps=steps,
            ),
            "critic": build_network(
                "torchgenaug:Critic",
                shape=[2 * channels + condition_channels(data, options), *spatial],
                width=options.width or 16,
                num_classes=steps * self.num_classes,
            ),
        }
        self.networks = {**self.networks, **ada.augmentation(options)}
        if options.condition in (None, "label"):  # a mask or a source shows how the image was augmented
            embedding = AugmentationEmbedding(len(spatial), self._generator.network.unet)
            embedding.spare = MovedAlike.spare  # as for other GANs: digits 1.64, with 85 % of the images 2.30
            self.networks = {**self.networks, AUGMENTATION: embedding}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, with the betas of Xiao (2022), appendix."""
        rate = self.options.learning_rate or 5e-4
        made = nn.ModuleList(network for name, network in self.networks.items() if name not in ("critic", "ada"))
        owned = {"generator": made, "critic": self.networks["critic"]}
        return {name: Adam(each.parameters(), lr=rate, betas=(0.5, 0.9)) for name, each in owned.items()}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The critic on a real and a generated step, then the generator."""
        image, generator = batch["image"], self._generator
        condition = condition_of(batch, self.data, self.options)
        step = torch.randint(1, self.steps + 1, (len(image),), device=image.device)
        here, there = generator.level(step, image.ndim), generator.level(step - 1, image.ndim)
        before, noisy = _two_levels(image, here, there)
        latent = torch.randn((len(image), self.latent_dim), device=image.device)
        with given_augmentation(self.networks, generator.network.unet, batch.get(AUGMENTATION)):
            clean = generator.clean(noisy, step, latent, condition)
        made = posterior_step(noisy, clean, here, there, torch.randn_like(image))

        given = [] if condition is None or self.options.condition == "label" else [condition]
        kinds = step - 1
        if self.options.condition == "label":
            kinds = kinds + self.steps * batch["label"]

        def shown(images: Tensor) -> Tensor:
            marks = sum(each.shape[1] for each in given)
            return ada.shown(self.networks, torch.cat([images, noisy, *given], 1), marks=marks)

        def score(seen: Tensor) -> Tensor:
            scores: Tensor = self.networks["critic"](seen, kinds)[0]
            return scores

        seen, channels = shown(before), image.shape[1]
        # The penalty's second derivatives do not go through `grid_sample`, which has none.
        first = seen[:, :channels].detach().requires_grad_()
        real = score(torch.cat([first, seen[:, channels:]], 1))
        ada.observe(self.networks, real)
        losses = {
            "critic": adversarial.real_loss(real) + adversarial.fake_loss(score(shown(made.detach()))),
            "penalty": _R1_WEIGHT / 2 * adversarial.squared_gradient(real, first).mean(),
        }
        update({"critic": losses["critic"] + losses["penalty"]})
        losses["generator"] = adversarial.real_loss(score(shown(made)))
        total = losses["generator"]
        if self.options.condition == "source":
            losses["distance_to_real"] = _DISTANCE_WEIGHT * functional.l1_loss(clean, image)
            total = total + losses["distance_to_real"]
        update({"generator": total})
        return losses

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """The generator's steps, all of whose random numbers are latents."""
        return module_synthesizer(networks["generator"], self.data, self.options)

    @property
    def _generator(self) -> Any:
        return self.networks["generator"]


def _two_levels(image: Tensor, here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Draws of x_s and, from it, of x_t, for s one step nearer to the image."""
    before = there[0] * image + there[1] * torch.randn_like(image)
    ratio = here[0] / there[0]
    added = (here[1] ** 2 - ratio**2 * there[1] ** 2).clamp(min=0).sqrt()
    return before, ratio * before + added * torch.randn_like(image)
