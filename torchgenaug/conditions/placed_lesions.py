"""`PlacedLesions`: real images without lesions, and where an inpainting model is to put one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from torchgenaug import seeding
from torchgenaug.conditions.real import PARENT, RealFields
from torchgenaug.conditions.regions import bent, fitting_places, numbers_of_bent
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.types import Batch, FieldSpec

_TRIES = 6
_SMALLER = 0.8  # each try
_MANY = 32  # classes: more are rather intensities


class PlacedLesions:
    """Real images with a lesion mask of another patient, deformed, anywhere in their organ: conditions of ``inpaint``.

    Image and mask of a sample belong together: the model fills the very region that the mask marks, and all other
    voxels are those of the real image::

        conditions = PlacedLesions(healthy, patients, organ="brain", value_range=(0, 1))
        sequence = SyntheticSequence(load_synthesizer("inpaint"), conditions)   # image, mask, source, parent

    Every real image and every lesion is used equally often. A mask is scaled by 0.7 to 1.3 along each axis, turned in
    the plane of the first two axes, bent, and put where all of it lies in the organ. Deterministic, a function of
    (seed, id); as picklable and as safe in workers as the data sets.

    Args:
        healthy: map-style data set of images with an organ mask; it must return the same sample each time.
        lesions: map-style data set with lesion masks, of any size. All are read once, to find those that mark nothing.
        image: field of `healthy`, (channels, *spatial) floating point.
        organ: field of `healthy`, integers or bool (1, *spatial), above 0 inside of the organ.
        lesion: field of `lesions`, integers (1, *spatial), 0 outside; samples of zeros are not used.
        value_range: that of the images, and of the model.
        num_classes: classes of the lesion masks, background included.
        spread: how far from where the lesion was it may be put, as a standard deviation in units of the image's sides;
            None: anywhere in the organ.
        seed: another seed gives other pairs, deformations and places.

    Attributes:
        fields: ``source``: the image with the region at the lower end of `value_range`, and behind its channels one
            mark for each class (the upper end inside, the lower end outside); ``mask``: (1, *spatial) int64;
            ``parent``: index in `healthy`.
        fingerprint: sha256 over those of both data sets and the settings.

    Raises:
        ConfigurationError: arguments or fields that do not fit, or lesions that are all empty; when a sample is read:
            an organ that no lesion fits into.
        FieldMismatchError: organ and image of different sizes.

    References:
        Chen et al. (2024). Towards generalizable tumor synthesis (DiffTumor). CVPR.
        Platscher, Zopes, Federau (2022). Image translation for medical image generation. Biomedical Signal Processing
        and Control 72, 103283.
    """

    def __init__(
        self,
        healthy: Any,
        lesions: Any,
        *,
        value_range: tuple[float, float],
        image: str = "image",
        organ: str = "organ",
        lesion: str = "mask",
        num_classes: int = 2,
        spread: float | None = 0.15,
        seed: int = 0,
    ) -> None:
        if spread is not None and not spread > 0:
            raise ConfigurationError(f"`spread` must be positive or None, got {spread!r}. None: anywhere in the organ.")
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise ConfigurationError(
                f"`num_classes` must be an integer of at least 2, the background included, got {num_classes!r}."
            )
        low, high = (float(each) for each in value_range)
        if not low < high:
            raise ConfigurationError(f"`value_range` must be (low, high) with low < high, got {value_range!r}.")
        self.image, self.organ, self.lesion, self.spread = image, organ, lesion, spread
        self.low, self.high, self.num_classes, self.seed = low, high, num_classes, seeding.checked_seed(seed)
        self._healthy = RealFields(healthy, (image, organ), seed=seed)
        # An order of its own: with one data set as both, an image would always get the lesion of its own row.
        order = int(seeding.derive(self.seed, seeding.CONDITION)) >> 1
        self._lesions = RealFields(lesions, lesion, seed=order)
        found, inside, region = (
            self._healthy.fields[image],
            self._healthy.fields[organ],
            self._lesions.fields[lesion],
        )
        if inside.shape != (1, *found.shape[1:]):
            raise FieldMismatchError(
                f"`organ` must have one channel and the size of the image, {(1, *found.shape[1:])}, got "
                f"{inside.shape}. A lesion would be put outside of the image. Resample it onto the image's grid."
            )
        if region.dtype.is_floating_point or region.shape[0] != 1 or len(region.shape) != len(found.shape):
            raise ConfigurationError(
                f"`lesion` must be a field of integer masks (1, *spatial) of as many axes as the images, got {region} "
                f"for images {found}."
            )
        self._rows = _marked(self._lesions, lesion, len(lesions))
        if len(self._rows) < len(lesions):
            self._lesions = RealFields(Subset(lesions, self._rows), lesion, seed=order)
        channels, *spatial = found.shape
        self.fields: Mapping[str, FieldSpec] = {
            "source": FieldSpec((channels + num_classes - 1, *spatial), value_range=(low, high)),
            "mask": FieldSpec((1, *spatial), torch.int64, kind="label_map", value_range=(0, num_classes - 1)),
            PARENT: self._healthy.fields[PARENT],
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over those of both data sets and the settings."""
        settings = (self.low, self.high, self.num_classes, self.spread, self.seed)
        known = repr(("placed lesions", self._healthy.fingerprint, self._lesions.fingerprint, settings))
        return hashlib.sha256(known.encode()).hexdigest()

    def __call__(self, ids: Sequence[int]) -> Batch:
        """The conditions of samples `ids`: ``source``, ``mask`` and ``parent``."""
        real = self._healthy(ids)
        masks = [
            self._placed(int(each), organ[0] > 0, int(parent))
            for each, organ, parent in zip(ids, real[self.organ], real[PARENT], strict=True)
        ]
        mask = torch.stack(masks)[:, None]
        images = real[self.image].float()
        marks = [torch.where(mask == k, self.high, self.low) for k in range(1, self.num_classes)]
        source = torch.cat([torch.where(mask > 0, self.low, images), *marks], 1)
        return {"source": source, "mask": mask, PARENT: real[PARENT]}

    def _placed(self, number: int, organ: Tensor, parent: int) -> Tensor:
        """The lesion mask (*spatial) int64 of sample `number`."""
        for attempt in range(_TRIES):
            key = seeding.derive(self.seed, seeding.CONDITION, number, attempt)
            # The first try takes every lesion equally often; later ones take others.
            other = number if attempt == 0 else int(seeding.derive(int(key), 1)) >> 2
            lesion = self._lesions([other])[self.lesion][0, 0].to(torch.int64)
            self._check_classes(lesion, other)
            drawn = torch.from_numpy(seeding.uniform([int(key)], numbers_of_bent(lesion.ndim) + 1))[0]
            box = bent(lesion, drawn[1:], _SMALLER**attempt)
            places = fitting_places(box, organ)
            if len(places):
                return _put(box, places[self._chosen(places, box, lesion, organ, float(drawn[0]))], organ)
        raise ConfigurationError(
            f"`organ` must have room for a lesion, got {int(organ.sum())} voxels inside of it at index {parent}, and "
            f"{_TRIES} lesions that are too large. A lesion is never put outside. Leave such images out, or give "
            "smaller lesions."
        )

    def _chosen(self, places: Tensor, box: Tensor, lesion: Tensor, organ: Tensor, number: float) -> int:
        """Position among `places`, drawn with weights that fall with the distance from where the lesion was."""
        weights = np.ones(len(places))
        if self.spread is not None:
            sides = torch.tensor(organ.shape)
            here = (places + torch.tensor(box.shape) / 2) / sides
            there = lesion.nonzero().float().mean(0) / torch.tensor(lesion.shape)
            distance = ((here - there).square().sum(1) / (2 * self.spread**2)).double()
            weights = torch.exp(distance.min() - distance).numpy()  # the nearest has weight 1, however far it is
        return int(np.searchsorted(np.cumsum(weights) / weights.sum(), number, side="right").clip(0, len(places) - 1))

    def _check_classes(self, lesion: Tensor, number: int) -> None:
        low, high = (int(each) for each in torch.aminmax(lesion))
        if low < 0 or high >= self.num_classes:
            parent = self._rows[int(self._lesions.parents([number])[0])]
            remedy = f"Give num_classes={high + 1}, or map" if low >= 0 and high < _MANY else "Map"
            raise ConfigurationError(
                f"`lesions` must hold classes in [0, {self.num_classes}), got {low if low < 0 else high} at index "
                f"{parent}. {remedy} the classes to those of the model, for example masks of 0 and 255 with "
                "(mask > 0).long()."
            )

    def __repr__(self) -> str:
        return f"PlacedLesions({self._healthy!r}, {self._lesions!r}, seed={self.seed})"


def _marked(lesions: RealFields, name: str, count: int) -> list[int]:
    """Indices of the samples that mark something; raises `ConfigurationError` if none does."""
    read = (lesions([number]) for number in range(count))  # each sample once
    rows = sorted(int(batch[PARENT][0]) for batch in read if bool((batch[name] != 0).any()))
    if not rows:
        raise ConfigurationError(
            f"`lesions` must hold masks that are not empty, got {count} without a region. Give samples with a lesion."
        )
    return rows


def _put(box: Tensor, corner: Tensor, organ: Tensor) -> Tensor:
    mask = torch.zeros(organ.shape, dtype=torch.int64)
    mask[tuple(slice(first, first + size) for first, size in zip(corner.tolist(), box.shape, strict=True))] = box
    return mask
