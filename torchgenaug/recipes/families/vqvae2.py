"""``vqvae2``: two levels of codes and an autoregressive prior of each (Razavi, van den Oord, Vinyals, 2019), 2D and 3D.

The first half of the steps trains the autoencoder, on squared errors and the commitment of its codes; the rest trains
the priors of the codes of training images, which are given how each image was augmented, so that samples are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.hierarchical_codes import UPPER
from torchgenaug.nets.sizes import fitting_sizes, size_option
from torchgenaug.recipes.batches import AUGMENTATION
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families.adversarial import with_ranges
from torchgenaug.recipes.families.augmented import AugmentationFeatures
from torchgenaug.recipes.families.ddpm import image_range
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "vqvae2": Family(
        "VQ-VAE 2 (Razavi 2019): two levels of discrete codes with autoregressive priors; slow to sample",
        steps=4000,
        batch_size=16,
        conditions=(None, "label"),
        dims=(2, 3),
        staged=True,
        settings={"codes": Setting(128, "size of each code book", low=2, high=4096)},
    )
}
_AUTOENCODER_SHARE = 0.5
_PARTS = ("autoencoder", "upper_prior", "lower_prior")


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that cannot be halved three times.
    """
    spatial = data.image_shape[1:]
    if any(size % UPPER for size in spatial):
        raise ConfigurationError(
            f"The images must have sizes that can be halved three times, got {spatial}. Resize or pad them: "
            f"{size_option(fitting_sizes(spatial, lambda sizes: UPPER))}"
        )
    return HierarchicalModel(data, options)


class HierarchicalModel:
    """An autoencoder with two code books, then the priors of their codes."""

    averaged = frozenset({"upper_prior", "lower_prior"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        self.num_classes = data.num_classes if options.condition == "label" else None
        sampler: Any = build_network(
            "torchgenaug:HierarchicalSampler",
            shape=list(data.image_shape),
            width=options.width or 16,
            num_codes=options.settings["codes"],
            code_dim=options.latent_dim or 16,
            num_classes=self.num_classes,
            classes_below=self.num_classes is not None,
        )
        self._sampler = sampler
        self.networks: Mapping[str, nn.Module] = {
            **{name: getattr(sampler, name) for name in _PARTS},
            AUGMENTATION: AugmentationFeatures(data.spatial_dims, 2 * sampler.upper_prior.width),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for the autoencoder, and for both priors together."""
        rate = self.options.learning_rate or 1e-3
        trained = [each for each in self.networks["autoencoder"].parameters() if each.requires_grad]
        names = (*sorted(self.averaged), AUGMENTATION)
        priors = [each for name in names for each in self.networks[name].parameters()]
        return {"autoencoder": Adam(trained, lr=rate), "priors": Adam(priors, lr=rate)}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """One step of the autoencoder, or later of the priors."""
        autoencoder: Any = self.networks["autoencoder"].train(progress < _AUTOENCODER_SHARE)
        if progress < _AUTOENCODER_SHARE:
            rebuilt, commitment, _ = autoencoder(batch["image"])
            error = functional.mse_loss(rebuilt.float(), batch["image"])
            update({"autoencoder": error + commitment})
            return {"reconstruction": error, "commitment": commitment}
        with torch.no_grad():
            _, _, (upper, lower) = autoencoder(batch["image"])
            maps = autoencoder.maps(upper)
        labels = None if self.num_classes is None else batch["label"]
        drawn = batch.get(AUGMENTATION)
        above, below = (None, None) if drawn is None else self.networks[AUGMENTATION](drawn).chunk(2, 1)
        upper_scores = self.networks["upper_prior"](upper, None, labels, above)
        lower_scores = self.networks["lower_prior"](lower, maps, labels, below)
        losses = {
            "upper_codes": functional.cross_entropy(upper_scores, upper),
            "lower_codes": functional.cross_entropy(lower_scores, lower),
        }
        update({"priors": losses["upper_codes"] + losses["lower_codes"]})
        return losses

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """Both grids of codes, one code after the other, and their decoder."""
        value_range = image_range(self.data)
        sampler: Any = with_ranges(self._sampler, value_range=list(value_range))
        for name in _PARTS:
            getattr(sampler, name).load_state_dict(networks[name].state_dict())
        return ModuleSynthesizer(
            sampler, latent_shape=sampler.latent_shape, num_classes=self.num_classes, value_range=value_range
        )
