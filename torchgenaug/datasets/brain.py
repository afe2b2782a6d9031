"""Real brain MR for the demo: axial slices of the ICBM152 T1 template with tissue masks.

The data come from the ``nilearn`` package (no download). Every slice is a dict of

* ``image``: (1, 64, 64) float32, T1 intensity in [0, 1], 3 mm pixels (averages of 3 x 3 pixels of 1 mm);
* ``mask``: (1, 64, 64) int64, tissue: 0 background, 1 CSF, 2 grey matter, 3 white matter;
* ``label``: int, how high the slice lies: 0 (temporal lobes) to 3 (vertex), 25 mm each.

There is one brain only, so "held-out" slices are held out by place (whole 10 mm blocks with a 2 mm gap), not by
patient: good enough to show the machinery, useless as evidence about generalisation.

Images are in torchio's axis order (x, y): for display, turn them by 90 degrees.

References:
    Fonov, Evans, McKinstry, Almli, Collins (2009). Unbiased nonlinear average age-appropriate brain templates from
    birth to adulthood. NeuroImage 47, S102.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.errors import missing_extra

if TYPE_CHECKING:
    import torchio

NUM_LEVELS = 4
NUM_TISSUES = 4
PIXEL_SPACING_MM = 3.0
_FIRST, _LAST = 35, 135  # voxel rows along z: from the temporal lobes to the vertex
_BLOCK_MM, _GAP_MM = 10, 2
_CROP_X, _CROP_Y, _SIDE = 2, 21, 192


class BrainSlice(TypedDict):
    """One real slice: the sample type of `BrainSlices`."""

    image: Tensor
    mask: Tensor
    label: int


def load_volumes() -> npt.NDArray[np.float32]:
    """T1, CSF, grey- and white-matter maps of ICBM152: (4, 192, 192, 100) float32 in [0, 1], 1 mm, RAS+ axes."""
    return read_maps((slice(_CROP_X, _CROP_X + _SIDE), slice(_CROP_Y, _CROP_Y + _SIDE), slice(_FIRST, _LAST)))


def read_maps(window: tuple[slice, slice, slice]) -> npt.NDArray[np.float32]:
    """The same four maps in another window of the 197 x 233 x 189 voxels.

    Raises:
        MissingExtraError: nilearn is not installed.
    """
    try:
        from nilearn import datasets
    except ImportError as error:
        raise missing_extra("The brain demo", package="nilearn", extra="demo") from error

    def voxels(image: Any) -> npt.NDArray[np.float32]:
        return np.asarray(image.dataobj, dtype=np.float32)[window]

    brain = voxels(datasets.load_mni152_brain_mask(resolution=1))
    t1 = voxels(datasets.load_mni152_template(resolution=1)) * brain
    grey = voxels(datasets.load_mni152_gm_template(resolution=1)) * brain
    white = voxels(datasets.load_mni152_wm_template(resolution=1)) * brain
    csf = np.clip(brain - grey - white, 0, 1)
    return np.stack([t1, csf, grey, white])


def slice_rows(split: str) -> list[int]:
    """Rows along z (0 to 99) of a split: ``"train"`` or ``"held_out"``; blocks of 10 mm, every third one held out."""
    rows = []
    for row in range(_LAST - _FIRST):
        block, offset = divmod(row, _BLOCK_MM)
        held_out = block % 3 == 2
        if held_out == (split == "held_out") and (not held_out or _GAP_MM <= offset < _BLOCK_MM - _GAP_MM):
            rows.append(row)
    return rows


def level_of(row: int) -> int:
    """The level class (0 to 3) of a row along z."""
    return row * NUM_LEVELS // (_LAST - _FIRST)


def to_slice(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Image (1, 64, 64) in [0, 1] and tissue mask (1, 64, 64) int64 of full-resolution maps (4, 192, 192)."""
    small = torch.nn.functional.avg_pool2d(maps, int(PIXEL_SPACING_MM))
    background = 1 - small[1:].sum(0, keepdim=True)
    mask = torch.cat([background, small[1:]]).argmax(0, keepdim=True)
    return small[:1].clamp(0, 1), mask


def draw_deformation() -> torchio.Transform:
    """The TorchIO transform that turns one template into many different brains (image and maps alike)."""
    import torchio as tio

    return tio.Compose(
        [
            tio.RandomFlip(axes=("LR",)),
            tio.RandomAffine(
                scales=(0.88, 1.1, 0.88, 1.1, 1, 1),
                degrees=(0, 0, 0, 0, -8, 8),
                translation=(-5, 5, -5, 5, 0, 0),
            ),
            tio.RandomElasticDeformation(num_control_points=(7, 7, 5), max_displacement=(9, 9, 0)),
        ]
    )


class BrainSlices(Dataset[BrainSlice]):
    """Real slices of one split, in memory.

    Args:
        split: ``"train"`` (70 slices at 1 mm) or ``"held_out"`` (18).
        every_mm: distance between slices.
    """

    def __init__(self, split: str = "train", *, every_mm: int = 1) -> None:
        volumes = torch.from_numpy(load_volumes())
        self.rows = slice_rows(split)[::every_mm]
        pairs = [to_slice(volumes[..., row]) for row in self.rows]
        self.images = torch.stack([image for image, _ in pairs])
        self.masks = torch.stack([mask for _, mask in pairs])
        self.labels = [level_of(row) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> BrainSlice:
        return {"image": self.images[index], "mask": self.masks[index], "label": self.labels[index]}
