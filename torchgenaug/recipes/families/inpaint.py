"""``inpaint``: a region of an image is filled given its surroundings, by a GAN: lesions into healthy images.

Gated convolutions of Yu et al. (2019), "Free-form image inpainting with gated convolution", and two critics, of the
whole image and of a window around the region, as in Iizuka, Simo-Serra, Ishikawa (2017), "Globally and locally
consistent image completion", section 3.3. With masks the regions are theirs, and what is learned are lesions; without
them regions are drawn anywhere, and what is learned is the tissue of the images.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.conditions.regions import numbers_of_round, round_regions
from torchgenaug.errors import EmptyDatasetError
from torchgenaug.recipes.data.derived import derived
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada, adversarial
from torchgenaug.recipes.families.marks import hide
from torchgenaug.recipes.families.pix2pix import patch_critic
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.seeding import derive, uniform
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch, FieldSpec

_DISTANCE_WEIGHT, _VARIETY_WEIGHT = 10.0, 1.0  # with 0.1 two latents made the same region
_LATENT_DIM = 16
PLACED = "PlacedLesions(healthy images with organ masks, lesion masks, value_range=(low, high))"


def with_regions(data: TrainingData, options: Options) -> TrainingData:
    """The samples whose mask has a region with surroundings; all of them where the condition is not ``mask``.

    Raises:
        EmptyDatasetError: there are none.

    Warns:
        UserWarning: how many are left out.
    """
    if options.condition != "mask" or "mask" not in data.fields:
        return data
    inside = [data.samples[row]["mask"] > 0 for row in range(len(data))]
    whole = sum(bool(each.all()) for each in inside)
    rows = [row for row, each in enumerate(inside) if bool(each.any()) and not bool(each.all())]
    if not rows:
        got = f"{whole} that cover all of the image and {len(data) - whole} empty ones"
        raise EmptyDatasetError(
            f"`mask` must mark a region in some of the images of {data.name!r}, 0 outside of it, got {got}. There "
            "is no lesion to learn from, or nothing around it. Leave --condition out to fill regions anywhere."
        )
    if len(rows) == len(data):
        return data
    warnings.warn(
        f"{len(data) - len(rows)} of {len(data)} images of {data.name!r} are left out: the mask of "
        f"{len(data) - len(rows) - whole} marks nothing, that of {whole} all of the image. A region is filled "
        "from its surroundings.",
        stacklevel=2,
    )
    return data.select(rows)


def with_hidden_regions(data: TrainingData, options: Options) -> TrainingData:
    """The data with ``source``: the image without a region, and marks of the region by class.

    With the condition ``mask`` the regions are those of the masks, and samples without any are left out, or with
    nothing else; otherwise the region of sample k is round, a function of k.

    Raises:
        EmptyDatasetError: no mask has a region with surroundings.

    Warns:
        UserWarning: how many are left out.
    """
    low, high = data.fields["image"].value_range or (0.0, 1.0)
    channels, *spatial = data.image_shape
    masked = options.condition == "mask"
    marks = (data.num_mask_classes or 2) - 1 if masked else 1
    data = with_regions(data, options)
    fields = {"source": FieldSpec((channels + marks, *spatial), value_range=(low, high))}
    return derived(data, fields, partial(_hide, masked=masked, marks=marks, low=low, high=high))


FAMILIES = {
    "inpaint": Family(
        "fills a region given its surroundings (Yu 2019): lesions into healthy images, with PlacedLesions; "
        "with masks the regions are those of the masks",
        steps=4000,
        batch_size=8,
        conditions=(None, "mask"),
        dims=(2, 3),
        settings=ada.settings(default=False),
        usable=with_regions,
        view=with_hidden_regions,
        given=("source",),
        conditions_by=PLACED,
    )
}


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for data as `with_hidden_regions` returns them.

    Raises:
        ConfigurationError: sizes that the networks cannot halve.
    """
    return Inpainting(data, options)


class Inpainting:
    """A generator, a critic of the whole image, and one of a window around the region."""

    averaged = frozenset({"generator"})

    def __init__(self, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        self.latent_dim, width = options.latent_dim or _LATENT_DIM, options.width or 16
        shape, seen = list(data.image_shape), data.fields["source"].shape[0]
        generator = build_network(
            "torchgenaug:GatedUNet", shape=shape, marks=seen - shape[0], width=width, latent_dim=self.latent_dim
        )
        self.networks: Mapping[str, nn.Module] = {
            "generator": generator,
            "whole": patch_critic(data, seen, width),
            "window": patch_critic(data, seen, width),
            **ada.augmentation(options),
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as in `pix2pix`."""
        rate, networks = self.options.learning_rate or 5e-4, self.networks
        critics = [each for name in ("whole", "window") for each in networks[name].parameters()]
        parameters = {"generator": list(networks["generator"].parameters()), "critics": critics}
        return {name: Adam(each, lr=rate, betas=(0.5, 0.99)) for name, each in parameters.items()}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """Both critics, then the generator."""
        real = batch["image"]
        marks = regions_of(batch, self.options)
        hidden = (marks > 0).any(1, keepdim=True)
        # Turned, scaled and shifted a little, a region may have left the image, or fill it.
        inside = hidden.flatten(1).any(1) & ~hidden.flatten(1).all(1)
        if not bool(inside.any()):
            return {}
        real, marks, hidden = real[inside], marks[inside], hidden[inside]
        given = hide(real, marks)
        noise = torch.randn((2 * len(real), self.latent_dim), device=real.device)
        fake, other = self.networks["generator"](noise, torch.cat([given, given])).chunk(2)
        real_scores = self._scores(real, marks, hidden)
        ada.observe(self.networks, real_scores)
        losses = {
            "critics": adversarial.real_loss(real_scores)
            + adversarial.fake_loss(self._scores(fake.detach(), marks, hidden))
        }
        update({"critics": losses["critics"]})
        losses["generator"] = adversarial.real_loss(self._scores(fake, marks, hidden))
        losses["distance_to_real"] = _DISTANCE_WEIGHT * (fake - real).abs().sum() / hidden.sum() / real.shape[1]
        losses["sameness"] = _VARIETY_WEIGHT * adversarial.sameness(fake, other, noise)
        update({"generator": losses["generator"] + losses["distance_to_real"] + losses["sameness"]})
        return losses

    def _scores(self, images: Tensor, marks: Tensor, hidden: Tensor) -> Tensor:
        """Those of both critics (scores,)."""
        seen = torch.cat([images, marks], 1)
        views = {"whole": seen, "window": window_of(seen, hidden)}
        scores = [
            self.networks[name](ada.shown(self.networks, view, marks=marks.shape[1]))[-1]
            for name, view in views.items()
        ]
        return torch.cat([each.flatten() for each in scores])

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the generator; all that is given is kept to the bit."""
        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        return ModuleSynthesizer(
            adversarial.with_ranges(networks["generator"], value_range=[low, high]),
            latent_shape=(self.latent_dim,),
            condition="source",
            condition_spec=self.data.fields["source"],
            value_range=(low, high),
        )


def regions_of(batch: Batch, options: Options) -> Tensor:
    """Marks of the regions of a batch (batch, classes, *spatial), 1 inside, -1 outside: of its masks, or new ones."""
    real = batch["image"]
    if options.condition == "mask":
        # Moved together with the image, and interpolated.
        return torch.where(batch["source"][:, real.shape[1] :] > 0, 1.0, -1.0)
    numbers = torch.rand((len(real), numbers_of_round(real.ndim - 2)), device=real.device)
    return round_regions(numbers, real.shape[2:]).to(real.dtype) * 2 - 1


def window_of(images: Tensor, hidden: Tensor) -> Tensor:
    """Half of each side around the middle of the region of each image: (batch, channels, *halved).

    Args:
        images: (batch, channels, *spatial).
        hidden: bool (batch, 1, *spatial), none empty.
    """
    for axis in range(2, images.ndim):
        size = images.shape[axis]
        half = size // 2
        mass = hidden.float().sum([1, *(other for other in range(2, images.ndim) if other != axis)])
        middle = (mass * torch.arange(size, device=images.device)).sum(1) / mass.sum(1)
        first = (middle - half / 2).round().long().clamp(0, size - half)
        shape = [len(images), 1] + [half if other == axis else 1 for other in range(2, images.ndim)]
        places = (first[:, None] + torch.arange(half, device=images.device)).view(shape)
        wanted = [*images.shape[:axis], half, *images.shape[axis + 1 :]]
        images = images.gather(axis, places.expand(wanted))
        hidden = hidden.gather(axis, places.expand([len(images), 1, *wanted[2:]]))
    return images


def _hide(
    index: int, sample: Mapping[str, Tensor], *, masked: bool, marks: int, low: float, high: float
) -> dict[str, Tensor]:
    image = sample["image"]
    if masked:
        hidden = functional.one_hot(sample["mask"][0], marks + 1).movedim(-1, 0)[1:].bool()
    else:
        numbers = torch.from_numpy(uniform(derive(1, [index]), numbers_of_round(image.ndim - 1)))
        hidden = round_regions(numbers, image.shape[1:])[0]
    cut = torch.where(hidden.any(0, keepdim=True), low, image)
    return {**sample, "source": torch.cat([cut, torch.where(hidden, high, low).to(image.dtype)])}
