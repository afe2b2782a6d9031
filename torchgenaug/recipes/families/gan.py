"""``dcgan``, ``wgan-gp``, ``acgan``: from noise (and a class) to an image or volume in one step.

Three ways to train one generator, `DCGANGenerator`, against one critic, `Critic`:

- ``dcgan``: Radford, Metz, Chintala (2016), with the non-saturating loss, the R1 penalty and DiffAugment.
- ``wgan-gp``: Gulrajani et al. (2017): the critic estimates a Wasserstein distance, and learns more often.
- ``acgan``: Odena, Olah, Shlens (2017): as ``dcgan``, with a critic that predicts classes (none is its input). Its
  classifier learns from real images only: early fakes have no class.

The generator is sampled from its average over training (EMA), with BatchNorm statistics of that average. Settings add
adaptive augmentation (`ada`), and against collapse: self-attention and spectral normalisation, together SAGAN's
(Zhang et al., 2019; here only the critic's weights are normalised), and what the critic sees of a whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.recipes.batches import AUGMENTATION
from torchgenaug.recipes.data.training_data import UNLABELLED, TrainingData
from torchgenaug.recipes.families import ada, adversarial
from torchgenaug.recipes.families.augmented import MovedAlike
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch


def _settings(batch: str, **more: Setting) -> dict[str, Setting]:
    return {
        **ada.settings(default=False),
        "attention": Setting(False, "self-attention in generator and critic (SAGAN, Zhang 2019)"),
        "spectral": Setting(False, "spectral normalisation of the critic (Miyato 2018; SAGAN)"),
        "smooth": Setting(False, "filters before halving and after doubling: gradients without patterns of period two"),
        "batch": Setting(
            batch,
            "what the critic sees of a whole batch, against collapse: its spread (Karras 2018) or how near its images "
            "are (minibatch discrimination, Salimans 2016)",
            choices=("none", "spread", "discrimination"),
        ),
        **more,
    }


FAMILIES = {
    "dcgan": Family(
        "GAN (Radford 2016) with R1 and DiffAugment: one network call a sample, the fastest; less variety than ddpm",
        steps=4000,
        batch_size=32,
        conditions=(None, "label"),
        dims=(2, 3),
        settings=_settings(batch="spread", r1=adversarial.R1),
    ),
    "wgan-gp": Family(
        "Wasserstein GAN with gradient penalty (Gulrajani 2017): steadier than dcgan, slower to train",
        steps=6000,
        batch_size=32,
        conditions=(None, "label"),
        dims=(2, 3),
        settings=_settings(batch="none"),
    ),
    "acgan": Family(
        "GAN whose critic classifies (Odena 2017): clear classes, less variety within a class than dcgan",
        steps=4000,
        batch_size=32,
        conditions=("label",),
        dims=(2, 3),
        unlabelled=True,
        settings=_settings(batch="spread", r1=adversarial.R1),
    ),
}
_LIPSCHITZ_WEIGHT, _CLASS_WEIGHT = 10.0, 1.0
_VARIETY_WEIGHT = 1.0
_CRITIC_STEPS = 3  # of wgan-gp, for each of the generator
_LATENT_DIM = 64
_FEW = 1000  # images, below which the critic would learn them by heart


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the networks cannot halve.
    """
    return LatentGAN(family, data, options)


class LatentGAN:
    """A generator and a critic."""

    averaged = frozenset({"generator"})

    def __init__(self, family: str, data: TrainingData, options: Options) -> None:
        self.family, self.data, self.options = family, data, options
        settings = options.settings
        self.num_classes = data.num_classes if options.condition == "label" else None
        self.any_unlabelled = self.num_classes is not None and data.num_unlabelled > 0
        self.latent_dim = options.latent_dim or _LATENT_DIM
        width = options.width or 16
        self.networks: Mapping[str, nn.Module] = {
            "generator": build_network(
                "torchgenaug:DCGANGenerator",
                latent_dim=self.latent_dim,
                shape=list(data.image_shape),
                width=width,
                num_classes=self.num_classes,
                attention=settings["attention"],
                smooth=settings["smooth"],
            ),
            "critic": build_network(
                "torchgenaug:Critic",
                shape=list(data.image_shape),
                width=width,
                num_classes=self.num_classes,
                auxiliary=family == "acgan",
                batch_spread=settings["batch"] == "spread",
                batch_discrimination=settings["batch"] == "discrimination",
                attention=settings["attention"],
                spectral=settings["spectral"],
                smooth=settings["smooth"],
            ),
            AUGMENTATION: MovedAlike(),
            **ada.augmentation(self.options),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, with the betas of Radford (2016) and Gulrajani (2017)."""
        rate = self.options.learning_rate or 5e-4
        betas = (0.5, 0.99) if self.family != "wgan-gp" else (0.0, 0.9)
        trained = {name: self.networks[name] for name in ("generator", "critic")}
        return {name: Adam(network.parameters(), lr=rate, betas=betas) for name, network in trained.items()}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The critic on real and generated images, then the generator (of ``wgan-gp``: in one step of three)."""
        real, labels = batch["image"], batch["label"] if self.num_classes is not None else None
        noise = torch.randn((len(real), self.latent_dim), device=real.device)
        wanted = self._wanted(labels)
        fake = self.networks["generator"](noise, wanted)
        seen = self.networks[AUGMENTATION](fake, batch.get(AUGMENTATION))
        losses = self._critic_losses(real, seen.detach(), labels)
        update({"critic": torch.stack(list(losses.values())).sum()})
        step = round(progress * (self.options.steps or 1))
        if self.family == "wgan-gp" and step % _CRITIC_STEPS:
            return losses
        made = self._generator_losses(seen, wanted)
        if labels is not None:
            # Conditioned on the class, a small generator soon makes one image of each.
            again = torch.randn_like(noise)
            other = self.networks["generator"](again, wanted)
            made["sameness"] = _VARIETY_WEIGHT * adversarial.sameness(fake, other, torch.cat([noise, again]))
        update({"generator": torch.stack(list(made.values())).sum()})
        return losses | made

    def _wanted(self, labels: Tensor | None) -> Tensor | None:
        """Classes of generated images: those of the real ones, and any where these are not known."""
        if labels is None or not self.any_unlabelled:
            return labels
        drawn = torch.randint(self.num_classes or 1, labels.shape, device=labels.device)
        return torch.where(labels == UNLABELLED, drawn, labels)

    def _critic_losses(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        critic = self.networks["critic"]
        real, fake = self._shown(real), self._shown(fake)
        if self.family == "wgan-gp":
            penalty = adversarial.lipschitz_penalty(lambda images: critic(images, labels)[0], real, fake)
            fake_scores, real_scores = critic(fake, labels)[0], critic(real, labels)[0]
            # A Wasserstein critic's scores have no zero.
            self._observe(real_scores, middle=(fake_scores.mean() + real_scores.mean()) / 2)
            return {"critic": fake_scores.mean() - real_scores.mean(), "penalty": _LIPSCHITZ_WEIGHT * penalty}
        real = real.detach().requires_grad_(self.options.settings["r1"] != 0)
        scores, classes = critic(real, labels)
        self._observe(scores)
        losses = {"critic": adversarial.real_loss(scores) + adversarial.fake_loss(critic(fake, labels)[0])}
        weight = float(self.options.settings["r1"])
        if weight:
            losses["penalty"] = weight / 2 * adversarial.squared_gradient(scores, real).mean()
        if classes is not None:
            # Real images of an unknown class teach the critic what is real, and nothing about classes.
            known = _given(labels) != UNLABELLED
            wrong = functional.cross_entropy(classes, _given(labels), ignore_index=UNLABELLED, reduction="sum")
            losses["critic_class"] = _CLASS_WEIGHT * wrong / known.sum().clamp(min=1)
        return losses

    def _generator_losses(self, fake: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        scores, classes = self.networks["critic"](self._shown(fake), labels)
        losses = {"generator": -scores.mean() if self.family == "wgan-gp" else adversarial.real_loss(scores)}
        if classes is not None:
            losses["generator_class"] = _CLASS_WEIGHT * functional.cross_entropy(classes, _given(labels))
        return losses

    def _observe(self, real_scores: Tensor, middle: Tensor | float = 0.0) -> None:
        if "ada" in self.networks:
            augment: Any = self.networks["ada"]
            augment.observe(real_scores, middle)

    def _shown(self, images: Tensor) -> Tensor:
        if "ada" in self.networks:
            augmented: Tensor = self.networks["ada"](images)
            return augmented
        # Where images abound, a critic that sees holes in all of them is too weak to notice a missing variety.
        return adversarial.diff_augment(images) if len(self.data) < _FEW else images

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the generator."""
        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        generator = adversarial.standing_statistics(networks["generator"], self._drawn)
        return ModuleSynthesizer(
            adversarial.with_ranges(generator, value_range=[low, high]),
            latent_shape=(self.latent_dim,),
            num_classes=self.num_classes,
            value_range=(low, high),
        )

    def _drawn(self, generator: nn.Module, draw: torch.Generator) -> Any:
        device = next(generator.parameters()).device
        count = 64
        noise = torch.randn((count, self.latent_dim), generator=draw).to(device)
        labels = None if self.num_classes is None else torch.arange(count, device=device) % self.num_classes
        return generator(noise, labels)


def _given(labels: Tensor | None) -> Tensor:
    # Only a critic with classes has class scores, and it has labels.
    return torch.empty(0, dtype=torch.int64) if labels is None else labels
