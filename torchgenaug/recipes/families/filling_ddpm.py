"""``mm-ddpm`` and ``inpaint-ddpm``: what `mm-gan` and `inpaint` fill, filled by a diffusion model trained for it.

Meng et al. (2022), "A novel unified conditional score-based generative framework for multi-modal medical image
completion" (UMM-CSGM): one conditional model for every subset of modalities; Saharia et al. (2022), "Palette:
image-to-image diffusion models", section 3: the image with a part left out is concatenated to the noisy one. Sampled
like RePaint without its repetitions, so that what is given is kept to the bit. Slower than the GANs, and what the
surroundings leave open differs from seed to seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn
from torch.optim import Optimizer

from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families.ddpm import PixelDiffusion
from torchgenaug.recipes.families.inpaint import PLACED, regions_of, with_hidden_regions, with_regions
from torchgenaug.recipes.families.marks import hide
from torchgenaug.recipes.families.modalities import FILLED, SETTING, groups_of, marks_of_some, with_hidden_modalities
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import DiffusionEditSynthesizer
from torchgenaug.types import Batch

FAMILIES = {
    "mm-ddpm": Family(
        "any missing modality from any others by diffusion (Meng 2022): closer and slower than mm-gan; for FillMissing",
        steps=4000,
        batch_size=16,
        dims=(2, 3),
        settings=SETTING,
        view=with_hidden_modalities,
        given=("source",),
        conditions_by=FILLED,
    ),
    "inpaint-ddpm": Family(
        "fills a region given its surroundings by diffusion (Saharia 2022): more variety than inpaint, slower",
        steps=4000,
        batch_size=16,
        conditions=(None, "mask"),
        dims=(2, 3),
        usable=with_regions,
        view=with_hidden_regions,
        given=("source",),
        conditions_by=PLACED,
    ),
}


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for data as the family's view returns them.

    Raises:
        ConfigurationError: sizes that the network cannot halve.
    """
    return FillingDiffusion(family, data, options)


class FillingDiffusion:
    """A `PixelDiffusion` whose source is the image with another part left out in every step."""

    def __init__(self, family: str, data: TrainingData, options: Options) -> None:
        self.family, self.data, self.options = family, data, options
        self.diffusion = PixelDiffusion(data, replace(options, condition="source"))
        self.networks: Mapping[str, nn.Module] = self.diffusion.networks
        self.averaged = self.diffusion.averaged

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW, as `ddpm`."""
        return self.diffusion.optimizers()

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """One denoising step; see `PixelDiffusion`."""
        real = batch["image"]
        if self.family == "mm-ddpm":
            marks = marks_of_some(real, groups_of(self.options, real.shape[1]))
        else:
            marks = regions_of(batch, self.options)
        given = {"image": real, "source": hide(real, marks, modalities=self.family == "mm-ddpm")}
        return self.diffusion.train_step(given, update, progress)

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> DiffusionEditSynthesizer:
        """25 steps, in which everything that is given is kept to the bit."""
        classes = self.data.fields["source"].shape[0] - self.data.image_shape[0]
        return DiffusionEditSynthesizer(
            self.diffusion.synthesizer(networks),
            marks="modalities" if self.family == "mm-ddpm" else classes,
            steps=self.options.sampling_steps or 25,
            resamples=1,
        )
