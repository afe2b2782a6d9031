"""``vae``, ``rhvae``, ``vae-gan``, ``vqvae`` and every other autoencoder of pythae, with our convolutional networks.

With ``--condition label`` one model is trained for each class, as in Chadebec et al. (2022), "Data augmentation in high
dimensional low sample size setting using a geometry-based variational autoencoder", where 50 images per class sufficed;
``cvae`` is that of the plain VAE. Latents are sampled from a distribution fitted to those of the training images
(`fit_latents`): the manifold of an RHVAE, an autoregressive network for the codes of a VQ-VAE, otherwise a mixture of
Gaussians (Ghosh et al., 2020). A Gaussian likelihood has a deviation of its own (Rybkin et al., 2021, "Simple and
effective VAE training with calibrated decoders"), here 0.1: with 1, the whole range of pixels, samples were blurred and
three models gave one and the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.batches import AUGMENTATION, to_symmetric
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families.augmented import MovedAlike
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import PythaeSynthesizer, build_network
from torchgenaug.synthesizers.pythae.fit import fit_latents
from torchgenaug.types import Batch

_MODELS: Mapping[str, tuple[str, str]] = {
    "vae": ("VAE", "variational autoencoder (Kingma 2014): quick and stable; blurred"),
    "cvae": ("VAE", "one variational autoencoder per class"),
    "rhvae": ("RHVAE", "Riemannian Hamiltonian VAE (Chadebec 2022): made for tens of images; slow to sample"),
    "hvae": ("HVAE", "Hamiltonian VAE (Caterini 2018)"),
    "vae-gan": ("VAEGAN", "VAE with a discriminator (Larsen 2016): sharper than vae, less steady"),
    "vqvae": ("VQVAE", "VAE with discrete codes (van den Oord 2017) and an autoregressive prior; slow to sample"),
    "vae-iaf": ("VAE_IAF", "VAE with inverse autoregressive flow (Kingma 2016)"),
    "vae-linnf": ("VAE_LinNF", "VAE with planar and radial flows (Rezende 2015)"),
    "info-vae": ("INFOVAE_MMD", "InfoVAE (Zhao 2019)"),
    "beta-vae": ("BetaVAE", "beta-VAE (Higgins 2017)"),
    "disentangled-beta-vae": ("DisentangledBetaVAE", "beta-VAE with growing capacity (Burgess 2018)"),
    "beta-tcvae": ("BetaTCVAE", "beta-TCVAE (Chen 2018)"),
    "factor-vae": ("FactorVAE", "FactorVAE (Kim 2018)"),
    "iwae": ("IWAE", "importance weighted autoencoder (Burda 2016)"),
    "miwae": ("MIWAE", "multiply importance weighted autoencoder (Rainforth 2018)"),
    "piwae": ("PIWAE", "partially importance weighted autoencoder (Rainforth 2018)"),
    "ciwae": ("CIWAE", "combination importance weighted autoencoder (Rainforth 2018)"),
    "vamp": ("VAMP", "VAE with a mixture of posteriors as prior (Tomczak 2018)"),
    "msssim-vae": ("MSSSIM_VAE", "VAE with structural similarity as loss (Snell 2017)"),
    "svae": ("SVAE", "VAE with latents on a sphere (Davidson 2018)"),
    "poincare-vae": ("PoincareVAE", "VAE with latents in hyperbolic space (Mathieu 2019)"),
    "wae": ("WAE_MMD", "Wasserstein autoencoder (Tolstikhin 2018)"),
    "aae": ("Adversarial_AE", "adversarial autoencoder (Makhzani 2016)"),
    "rae-l2": ("RAE_L2", "regularised autoencoder, L2 (Ghosh 2020)"),
    "rae-gp": ("RAE_GP", "regularised autoencoder, gradient penalty (Ghosh 2020)"),
    "ae": ("AE", "plain autoencoder with a fitted mixture of latents: the baseline"),
}
_FLAT_ONLY = {"msssim-vae"}  # its loss exists in 2D only
# `GAUSSIAN_MODELS` of `torchgenaug.nets.pythae`, which cannot be imported without pythae.
_GAUSSIAN = {
    *("VAE", "BetaVAE", "DisentangledBetaVAE", "BetaTCVAE", "FactorVAE", "INFOVAE_MMD", "IWAE", "MIWAE", "PIWAE"),
    *("CIWAE", "VAMP", "VAE_IAF", "VAE_LinNF", "SVAE", "PoincareVAE", "HVAE", "RHVAE"),
}
# The gradient penalty needs second derivatives, which `grid_sample` has not; FactorVAE mixes the order of a batch.
_NOT_MOVED = {"RAE_GP", "FactorVAE"}
_OBSERVATION_STD = 0.1
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # Both decode an image estimates x samples times in a step; pythae's 5 x 10 left 17 steps to a minute of one core.
    "MIWAE": {"number_gradient_estimates": 2, "number_samples": 5},
    "PIWAE": {"number_gradient_estimates": 2, "number_samples": 5},
    # Structural similarity is at most 1, however large the image: with pythae's 1e-2 all samples became one.
    "MSSSIM_VAE": {"beta": 1e-4},
}
# pythae's latents of these are no Gaussian cloud: the prior that they were trained with is sampled.
_OWN_PRIOR = {"SVAE", "PoincareVAE", "VAMP"}
FAMILIES = {
    name: Family(
        summary,
        steps=1500,
        batch_size=128 if name == "cvae" else 32,  # of ten classes, each model sees a tenth
        conditions=("label",) if name == "cvae" else (None, "label"),
        dims=(2,) if name in _FLAT_ONLY else (2, 3),
    )
    for name, (_, summary) in _MODELS.items()
}
_MOST_ENCODED = 1000
_WARM = 1000  # epochs; pythae's longest warm-up takes 100
_PRIOR_STEPS = 300  # of the network of a VQ-VAE's codes, at every report


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: a width that is no multiple of 4, batches of one, a class without images.
        MissingExtraError: pythae is not installed.
    """
    return Autoencoders(_MODELS[family][0], data, options)


class Autoencoders:
    """One autoencoder, or one per class."""

    def __init__(self, model: str, data: TrainingData, options: Options) -> None:
        self.model, self.data, self.options, self.epochs_before = model, data, options, 0
        if options.batch_size == 1:
            raise ConfigurationError(
                "`batch_size` must be at least 2 for an autoencoder of pythae, got 1. Fewer than two images of a class "
                "are passed over, and nothing would be learned. Smaller images (--size) take less memory."
            )
        labels = data.labels() if options.condition == "label" else None
        self.classes: list[int | None] = [None] if labels is None else list(range(data.num_classes or 0))
        self.rows = {
            label: list(range(len(data))) if labels is None else (labels == label).nonzero()[0].tolist()
            for label in self.classes
        }
        empty = [label for label, rows in self.rows.items() if len(rows) < 2]
        if empty:
            raise ConfigurationError(
                f"Every class must have at least 2 training images for a model of its own, got fewer of {empty}. Add "
                "images, or train without --condition."
            )
        models = {
            _name(label): build_network(
                "torchgenaug:PythaeNetwork",
                model=model,
                input_shape=list(data.image_shape),
                latent_dim=options.latent_dim or 16,
                width=options.width or 16,
                options=_OPTIONS.get(model, {}),
                **({"observation_std": _OBSERVATION_STD} if model in _GAUSSIAN else {}),
            )
            for label in self.classes
        }
        # The metric of an RHVAE and the code book of a VQ-VAE belong to the weights of the moment.
        self.averaged = frozenset() if model in ("RHVAE", "VQVAE") else frozenset(models)
        self.networks: Mapping[str, nn.Module] = models
        if model not in _NOT_MOVED:
            self.networks = {**models, AUGMENTATION: MovedAlike()}

    def go_on(self, untrained: frozenset[str]) -> None:
        """Warm-up is over: from the capacity of its beginning on, a disentangled beta-VAE would unlearn its code."""
        self.epochs_before = _WARM

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for every group of parameters of every model."""
        rate = self.options.learning_rate or 1e-3
        return {
            f"{name}.{group}": Adam(_network(self.networks[name]).group_parameters(group), lr=rate)
            for name in map(_name, self.classes)
            for group in _network(self.networks[name]).groups
        }

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """A step of each model on its own images; a class with fewer than two in the batch waits."""
        losses: dict[str, list[Tensor]] = {}
        epoch = (
            self.epochs_before + 1 + int(progress * (self.options.steps or 1) * len(batch["image"]) / len(self.data))
        )
        drawn = batch.get(AUGMENTATION)
        for label in self.classes:
            rows = slice(None) if label is None else batch["label"] == label
            images = batch["image"][rows] * 0.5 + 0.5
            if len(images) < 2:
                continue
            network = _network(self.networks[_name(label)])
            with self._moved(network.decoder, None if drawn is None else drawn[rows]):
                made = network.losses(images, epoch=epoch, dataset_size=len(self.rows[label]))
            update({f"{_name(label)}.{group}": loss for group, loss in made.items()})
            for group, loss in made.items():
                losses.setdefault(group, []).append(loss.detach())
        return {group: torch.stack(each).mean() for group, each in losses.items()}

    def _moved(self, decoder: nn.Module, drawn: Tensor | None) -> AbstractContextManager[None]:
        """Within it, what is decoded is moved as the images were."""
        move: Any = self.networks.get(AUGMENTATION)
        return nullcontext() if move is None else move.outputs(decoder, drawn)

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> PythaeSynthesizer:
        """Latents as in the module's text."""
        models: dict[int | None, Any] = {label: networks[_name(label)] for label in self.classes}
        samplers: dict[int | None, Any] = {}
        for label, model in models.items():
            fitted = self.model not in _OWN_PRIOR
            samplers[label] = fit_latents(model, self._images(label), steps=_PRIOR_STEPS) if fitted else None
        alone = self.classes == [None]
        sampler: Any = None if self.model in _OWN_PRIOR else samplers[None] if alone else samplers
        return PythaeSynthesizer(
            models[None] if alone else models,
            sampler=sampler,
            value_range=self.data.fields["image"].value_range or (0.0, 1.0),
        )

    def _images(self, label: int | None) -> Tensor:
        """At most 1,000 training images in [0, 1], spread over the data."""
        rows = self.rows[label]
        kept = rows[:: max(1, -(-len(rows) // _MOST_ENCODED))]
        images = torch.stack([self.data.samples[row]["image"] for row in kept])
        return (to_symmetric(images, self.data.fields["image"]) * 0.5 + 0.5).clamp(0, 1)


def _name(label: int | None) -> str:
    return "model" if label is None else f"class_{label}"


def _network(network: nn.Module) -> Any:
    # PythaeNetwork: importing it would need pythae for the list of families.
    return network
