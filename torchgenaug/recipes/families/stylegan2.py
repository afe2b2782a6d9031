"""``stylegan2``: from noise (and a class) to styles to an image or volume; for small data, with adaptive augmentation.

Karras et al. (2020), "Analyzing and improving the image quality of StyleGAN": non-saturating loss, R1 and path length
regularisation in some steps only (their section 3.1), mixed styles (Karras et al., 2019, section 3.1); and "Training
generative adversarial networks with limited data" (Karras et al., 2020) for the augmentation. Networks are small, and
the rate of training is higher than theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from torchgenaug.recipes.batches import AUGMENTATION
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada, adversarial
from torchgenaug.recipes.families.augmented import MovedAlike
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "stylegan2": Family(
        "style-based GAN (Karras 2020) with adaptive augmentation and truncation: slower to learn than dcgan",
        steps=6000,
        batch_size=32,
        conditions=(None, "label"),
        dims=(2, 3),
        settings={
            **ada.settings(default=True),
            "r1": adversarial.R1,
            "path_length": Setting(2.0, "weight of path length regularisation; 0: none", low=0),
            "mixing": Setting(0.9, "share of images with two styles in training", low=0, high=1),
            "truncation": Setting(1.0, "share of a style's distance to the mean that samples keep", low=0, high=1),
        },
    )
}
_R1_EVERY, _PATH_EVERY = 16, 4
_PATH_DECAY = 0.01
_LATENT_DIM = 64


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the networks cannot halve.
    """
    return StyleGAN(data, options)


class StyleGAN:
    """A generator with a mapping network, and a critic."""

    averaged = frozenset({"generator"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        self.num_classes = data.num_classes if options.condition == "label" else None
        self.latent_dim = options.latent_dim or _LATENT_DIM
        common = {"shape": list(data.image_shape), "width": options.width or 16, "num_classes": self.num_classes}
        self.networks: Mapping[str, Any] = {
            "generator": build_network("torchgenaug:StyleGAN2Generator", latent_dim=self.latent_dim, **common),
            "critic": build_network("torchgenaug:StyleGAN2Critic", **common),
            "path": _MeanLength(),
            AUGMENTATION: MovedAlike(),
            **ada.augmentation(self.options),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as Karras (2020), appendix B."""
        rate = self.options.learning_rate or 2e-3
        trained = {name: self.networks[name] for name in ("generator", "critic")}
        return {name: Adam(network.parameters(), lr=rate, betas=(0.0, 0.99)) for name, network in trained.items()}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The critic on real and generated images, then the generator; regularised every 16th and 4th step."""
        real, labels = batch["image"], batch["label"] if self.num_classes is not None else None
        step = round(progress * (self.options.steps or 1))
        generator, critic = self.networks["generator"], self.networks["critic"]
        styles = self._mixed_styles(len(real), labels)
        fake = self.networks[AUGMENTATION](generator.images(styles), batch.get(AUGMENTATION))
        penalised = self.options.settings["r1"] != 0 and step % _R1_EVERY == 0
        losses = self._critic_losses(real, fake.detach(), labels, penalised)
        update({"critic": torch.stack(list(losses.values())).sum()})
        made = {"generator": adversarial.real_loss(critic(self._shown(fake), labels))}
        weight = float(self.options.settings["path_length"])
        if weight and step % _PATH_EVERY == 0:
            part = max(1, len(real) // 2)
            kept = styles[:part]
            made["path_length"] = weight * _PATH_EVERY * self.networks["path"](generator.images(kept), kept)
        update({"generator": torch.stack(list(made.values())).sum()})
        return losses | made

    def _mixed_styles(self, count: int, labels: Tensor | None) -> Tensor:
        """Styles (count, layers, latent_dim): of some images, those of the last layers come from other latents."""
        generator = self.networks["generator"]
        layers, device = len(generator.convolutions), next(generator.parameters()).device
        noise = torch.randn((2, count, self.latent_dim), device=device)
        one, other = (generator.styles(each, labels)[:, None] for each in noise)
        mixed = torch.rand(count, device=device) < float(self.options.settings["mixing"])
        last = torch.where(mixed, torch.randint(1, layers + 1, (count,), device=device), layers)
        return torch.where((torch.arange(layers, device=device) < last[:, None])[:, :, None], one, other)

    def _critic_losses(self, real: Tensor, fake: Tensor, labels: Tensor | None, penalised: bool) -> dict[str, Tensor]:
        critic = self.networks["critic"]
        real = self._shown(real).detach().requires_grad_(penalised)
        scores = critic(real, labels)
        if "ada" in self.networks:
            self.networks["ada"].observe(scores)
        fakes = critic(self._shown(fake), labels)
        losses = {"critic": adversarial.real_loss(scores) + adversarial.fake_loss(fakes)}
        if penalised:
            penalty = adversarial.squared_gradient(scores, real).mean()
            losses["penalty"] = float(self.options.settings["r1"]) / 2 * _R1_EVERY * penalty
        return losses

    def _shown(self, images: Tensor) -> Tensor:
        shown: Tensor = self.networks["ada"](images) if "ada" in self.networks else images
        return shown

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the generator."""
        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        truncation = float(self.options.settings["truncation"])
        generator: Any = adversarial.with_ranges(networks["generator"], value_range=[low, high], truncation=truncation)
        generator.set_mean_style()
        return ModuleSynthesizer(
            generator, latent_shape=(self.latent_dim,), num_classes=self.num_classes, value_range=(low, high)
        )


class _MeanLength(nn.Module):
    """Path length regularisation: Karras (2020), equation 4, with the running mean of the lengths as a buffer."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, images: Tensor, styles: Tensor) -> Tensor:
        """Mean of (|∂(image · noise) / ∂ styles| - running mean)², noise of unit size."""
        noise = torch.randn_like(images) / math.sqrt(math.prod(images.shape[2:]))
        (gradient,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
        lengths = (gradient.float().square().sum(2).mean(1) + 1e-12).sqrt()
        self.mean.lerp_(lengths.detach().mean(), _PATH_DECAY)
        return (lengths - self.mean).square().mean()
