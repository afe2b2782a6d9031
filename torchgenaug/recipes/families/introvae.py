"""``introvae``: a VAE whose encoder is the critic of its decoder, without a third network.

Huang, Li, He, Sun, Tan (2018), "IntroVAE: Introspective variational autoencoders for photographic image synthesis", in
the form of Daniel and Tamar (2021), "Soft-IntroVAE: Analyzing and improving the introspective variational autoencoder",
equations 5 and 6: exp(-2 ELBO) in place of a margin that has to be tuned. The encoder keeps real images near the prior
and pushes generated ones away; the decoder pulls its images back. A plain VAE is trained in the first tenth, but not
where training begins with a model that has been through that.
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
from torchgenaug.recipes.families import adversarial
from torchgenaug.recipes.families.augmented import MovedAlike
from torchgenaug.recipes.families.latent_losses import divergence, drawn, squared_error
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "introvae": Family(
        "VAE whose encoder judges what it decodes (Huang 2018, soft form of Daniel 2021): needs long training",
        steps=3000,
        batch_size=32,
        conditions=(None, "label"),
        dims=(2, 3),
        settings={
            "reconstruction": Setting(2.0, "weight of the squared error relative to the divergence", low=0),
            "rejection": Setting(256.0, "weight of a generated image's divergence in the encoder's loss", low=0),
        },
    )
}
_LATENT_DIM = 32
_PLAIN = 0.1  # of the training
_FEEDBACK = 1e-8  # weight of the errors of generated images in the decoder's loss: γ_r of Daniel (2021), section 5


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: a width that is no multiple of 4.
    """
    return IntrospectiveVAE(data, options)


class IntrospectiveVAE:
    """An encoder and a decoder, each with an optimizer of its own."""

    averaged = frozenset({"decoder"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.weights = {name: float(value) for name, value in options.settings.items()}
        self.data, self.options = data, options
        self.plain = _PLAIN
        self.num_classes = data.num_classes if options.condition == "label" else None
        self.latent_dim = options.latent_dim or _LATENT_DIM
        common: dict[str, Any] = {
            "latent_dim": self.latent_dim,
            "shape": list(data.image_shape),
            "width": options.width or 16,
            "num_classes": self.num_classes,
        }
        self.networks: Mapping[str, nn.Module] = {
            "encoder": build_network("torchgenaug:GaussianEncoder", **common),
            "decoder": build_network("torchgenaug:LatentDecoder", **common),
            AUGMENTATION: MovedAlike(),
        }

    def go_on(self, untrained: frozenset[str]) -> None:
        """Leaves the first tenth out, unless the encoder begins untrained."""
        self.plain = _PLAIN if untrained & {"encoder", "decoder"} else 0.0

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as Daniel (2021); the rate suits short training."""
        rate = self.options.learning_rate or 5e-4
        return {name: Adam(self.networks[name].parameters(), lr=rate) for name in ("encoder", "decoder")}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The encoder, then the decoder; in the first tenth both as those of a VAE."""
        real, labels = batch["image"], batch["label"] if self.num_classes is not None else None
        scale = 1 / math.prod(real.shape[1:])
        noise = torch.randn((len(real), self.latent_dim), device=real.device)
        given = (labels, batch.get(AUGMENTATION))
        error, spread, rebuilt = self._bound(real, given)
        plain = scale * (error + spread).mean()
        if progress < self.plain:
            update({"encoder": plain, "decoder": plain})
            return {"encoder": plain, "decoder": plain}
        rejected = torch.zeros_like(plain)
        for fake in (self._decoded(noise, given), rebuilt):
            fake_error, fake_spread, _ = self._bound(fake.detach(), given, self.weights["rejection"])
            rejected = rejected + 0.25 * (-2 * scale * (fake_error + fake_spread)).exp().mean()
        losses = {"encoder": plain + rejected}
        update(losses)
        # With the new encoder, which gets no gradient here.
        error, _, rebuilt = self._bound(real, given)
        total = error.mean()
        for fake in (self._decoded(noise, given), rebuilt):
            fake_error, fake_spread, _ = self._bound(fake, given)
            total = total + 0.5 * (fake_spread + _FEEDBACK * fake_error).mean()
        losses["decoder"] = scale * total
        update({"decoder": losses["decoder"]})
        return losses

    def _decoded(self, latents: Tensor, given: tuple[Tensor | None, Tensor | None]) -> Tensor:
        """Images of latents and labels, moved as the real images of the batch were: of `given` labels and draws."""
        labels, moves = given
        made: Tensor = self.networks[AUGMENTATION](self.networks["decoder"](latents, labels), moves)
        return made

    def _bound(
        self, images: Tensor, given: tuple[Tensor | None, Tensor | None], weight: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted error and divergence of each image, whose sum is the negative evidence bound; what was rebuilt."""
        mean, log_variance = self.networks["encoder"](images, given[0])
        rebuilt = self._decoded(drawn(mean, log_variance), given)
        error = self.weights["reconstruction"] * squared_error(images, rebuilt)
        return error, weight * divergence(mean, log_variance), rebuilt

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """The decoder on standard normal latents."""
        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        return ModuleSynthesizer(
            adversarial.with_ranges(networks["decoder"], value_range=[low, high]),
            latent_shape=(self.latent_dim,),
            num_classes=self.num_classes,
            value_range=(low, high),
        )
