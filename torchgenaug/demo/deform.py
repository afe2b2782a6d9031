"""Many brains from one: TorchIO draws a deformation, which is then applied to all maps of a brain at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import torchio

_OUTSIDE = 10.0  # in units of half a side, added so that TorchIO's padding with 0 means "far outside"


def deformed(maps: Tensor, transform: torchio.Transform, seed: int, *, spacing_mm: float, cell: int) -> Tensor:
    """The maps, moved by one draw of `transform`; what comes from outside is 0.

    TorchIO moves a coarse grid of coordinates instead of the maps themselves, and one `grid_sample` does the rest: its
    elastic transform needs seconds for four maps of 64 x 80 x 64, and a smooth field loses nothing on a coarse grid.

    Args:
        maps: (channels, *three spatial axes) float32, RAS+.
        transform: spatial TorchIO transforms that fill in 0.
        seed: of the draw; torch's global generator keeps its state.
        spacing_mm: size of a voxel.
        cell: voxels per coarse cell along each axis that is longer than one voxel; it must divide them.
    """
    import torchio as tio

    spatial = tuple(maps.shape[1:])
    coarse = _identity(tuple(max(1, size // cell) for size in spatial))
    affine = torch.diag(torch.tensor([*(spacing_mm * (cell if size > 1 else 1) for size in spatial), 1.0]))
    subject = tio.Subject(places=tio.ScalarImage(tensor=coarse + _OUTSIDE, affine=affine.numpy()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        places = transform(subject).places.data - _OUTSIDE
    shift = nn.functional.interpolate((places - coarse)[None], spatial, mode="trilinear", align_corners=False)
    # grid_sample counts axes from the last one.
    grid = (_identity(spatial)[None] + shift).flip(1).movedim(1, -1)
    return nn.functional.grid_sample(maps[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


def _identity(spatial: tuple[int, ...]) -> Tensor:
    """(3, *spatial) where each voxel lies, from -1 to 1 along each axis."""
    axes = [(2 * torch.arange(size) + 1) / size - 1 for size in spatial]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
