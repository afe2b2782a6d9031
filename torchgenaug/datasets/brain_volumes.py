"""Brain volumes for 3D models: the ICBM152 T1 template, deformed into many different brains.

Every sample is a dict of ``image`` (1, 32, 40, 32) float32, T1 intensity in [0, 1], voxels of 5 mm, axes RAS+, and
``mask`` (1, 32, 40, 32) int64: 0 background, 1 CSF, 2 grey matter, 3 white matter. Brain k of a split is the same on
every machine with the same versions. All of them are one template: train and held-out brains differ by their
deformation only, which shows that a model works, and nothing about other people.

References:
    Fonov et al. (2009): see `torchgenaug.datasets.brain`.
"""

from __future__ import annotations

import functools
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from torchgenaug.datasets.brain import NUM_TISSUES, read_maps
from torchgenaug.datasets.deform import deformed
from torchgenaug.errors import ConfigurationError
from torchgenaug.seeding import derive

SHAPE = (32, 40, 32)
SPACING_MM = 5.0
_COUNTS = {"train": 64, "held_out": 16}
_FINE = (64, 80, 64)  # where brains are deformed: voxels of 2.5 mm, so that interpolation does not blur
_FINE_MM = 2.5
_WINDOW = (slice(18, 178), slice(17, 217), slice(0, 157))  # 1 mm voxels around the brain; three more below it
_BELOW = 3


class BrainVolume(TypedDict):
    """One brain: the sample type of `BrainVolumes`."""

    image: Tensor
    mask: Tensor


class BrainVolumes(Dataset[BrainVolume]):
    """Deformed brains of one split, in memory.

    Args:
        split: ``"train"`` (64 brains) or ``"held_out"`` (16).

    Raises:
        ConfigurationError: another split.
        MissingExtraError: nilearn is not installed.
    """

    def __init__(self, split: str = "train") -> None:
        if split not in _COUNTS:
            raise ConfigurationError(f"`split` must be one of {list(_COUNTS)}, got {split!r}.")
        self.images, self.masks = _brains(split)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> BrainVolume:
        return {"image": self.images[index], "mask": self.masks[index]}


@functools.lru_cache(maxsize=2)
def _brains(split: str) -> tuple[Tensor, Tensor]:
    import torchio as tio

    deform = tio.Compose(
        [
            tio.RandomFlip(axes=("LR",)),
            tio.RandomAffine(scales=(0.8, 0.95), degrees=8, translation=3, isotropic=False, default_pad_value=0),
            tio.RandomElasticDeformation(num_control_points=7, max_displacement=8),
        ]
    )
    maps, pairs = _fine_maps(), []
    for index in range(_COUNTS[split]):
        seed = int(derive(list(_COUNTS).index(split), index))
        pairs.append(_sample(deformed(maps, deform, seed, spacing_mm=_FINE_MM, cell=4)))
    return torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])


@functools.lru_cache(maxsize=1)
def _fine_maps() -> Tensor:
    """T1, CSF, grey and white matter: (4, 64, 80, 64)."""
    maps = nn.functional.pad(torch.from_numpy(read_maps(_WINDOW)), (_BELOW, 0))
    return nn.functional.adaptive_avg_pool3d(maps, _FINE)


def _sample(maps: Tensor) -> tuple[Tensor, Tensor]:
    small = nn.functional.avg_pool3d(maps, 2)
    background = 1 - small[1:].sum(0, keepdim=True)
    mask = torch.cat([background, small[1:]]).argmax(0, keepdim=True)
    return small[:1].clamp(0, 1), mask


__all__ = ["NUM_TISSUES", "SHAPE", "SPACING_MM", "BrainVolume", "BrainVolumes"]
