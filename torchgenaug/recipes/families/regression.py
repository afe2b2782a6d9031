"""``regression`` and ``look-up``: from an image of another modality to the image, without a critic.

Both learn the mean image for a source from registered pairs. They are what an adversarial translator has to be better
than: ``regression`` is the U-Net of ``pix2pix`` with the mean absolute error alone (Isola et al., 2017, table 1, "L1"),
blurred where a source leaves several images open; ``look-up`` is one intensity for each intensity, wherever it lies.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families.cyclegan import source_synthesizer
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "regression": Family(
        "paired translation without a critic: source image to the mean image, one network call a sample",
        steps=2000,
        batch_size=4,
        conditions=("source",),
        dims=(2, 3),
    ),
    "look-up": Family(
        "an intensity look-up table from source to image, learned from pairs: what a translator has to beat",
        steps=500,
        batch_size=8,
        conditions=("source",),
        dims=(2, 3),
    ),
}


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the network cannot halve; for ``look-up`` other channels in the source than in
            the image.
    """
    return MeanTranslation(family, data, options)


class MeanTranslation:
    """One network, trained on its distance to the true images."""

    averaged = frozenset({"generator"})

    def __init__(self, family: str, data: TrainingData, options: Options) -> None:
        self.family, self.data, self.options = family, data, options
        source, image = data.fields["source"].shape, data.image_shape
        if family == "look-up" and source != image:
            raise ConfigurationError(
                f"look-up must have sources of the same shape as the images, got {source} and {image}. A table maps "
                "pixel by pixel. Use regression."
            )
        self.networks: Mapping[str, nn.Module] = {
            "generator": build_network("torchgenaug:IntensityTable", channels=image[0])
            if family == "look-up"
            else build_network(
                "torchgenaug:TranslationUNet", in_channels=source[0], shape=list(image), width=options.width or 16
            )
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam; a table has few numbers, and learns faster."""
        rate = self.options.learning_rate or (2e-2 if self.family == "look-up" else 1e-3)
        return {"generator": Adam(self.networks["generator"].parameters(), lr=rate)}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """The distance to the true images: absolute of the U-Net, squared of the table, whose optimum is the mean."""
        distance = functional.mse_loss if self.family == "look-up" else functional.l1_loss
        loss = distance(self.networks["generator"](batch["source"]), batch["image"])
        update({"generator": loss})
        return {"distance_to_real": loss}

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the network; it has no latents, so that a source has one image whatever the seed."""
        return source_synthesizer(networks["generator"], self.data)
