"""Many brains from one: TorchIO draws a deformation, which is then applied to all maps of a brain at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import torchio

_OUTSIDE = 10.0  # in units of half a side, added so that TorchIO's padding with 0 means "far outside"
_MARGIN = 4


def deformed(maps: Tensor, transform: torchio.Transform, seed: int, *, spacing_mm: float, cell: int) -> Tensor:
    """The maps, moved by one draw of `transform`; what comes from outside is 0.

    TorchIO moves a coarse grid of coordinates instead of the maps themselves, and one `grid_sample` does the rest: its
    elastic transform needs seconds for four maps of 64 x 80 x 64, and a smooth field loses nothing on a coarse grid.
    The coarse grid reaches beyond the maps, so that its padding never mixes with a coordinate that is used.

    Args:
        maps: (channels, *three spatial axes) float32, RAS+.
        transform: spatial TorchIO transforms that fill in 0, and move nothing by more than `_MARGIN` cells.
        seed: of the draw; torch's global generator keeps its state.
        spacing_mm: size of a voxel.
        cell: voxels per coarse cell along each axis that is longer than one voxel; it must divide them.
    """
    import torchio as tio

    spatial = tuple(maps.shape[1:])
    margins = [_MARGIN if size > 1 else 0 for size in spatial]
    coarse = _identity([max(1, size // cell) for size in spatial], margins)
    affine = torch.diag(torch.tensor([*(spacing_mm * (cell if size > 1 else 1) for size in spatial), 1.0]))
    subject = tio.Subject(places=tio.ScalarImage(tensor=coarse + _OUTSIDE, affine=affine.numpy()))
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        shift = transform(subject).places.data - _OUTSIDE - coarse
    for axis, margin in enumerate(margins, start=1):
        shift = shift.narrow(axis, margin, shift.shape[axis] - 2 * margin)
    shift = nn.functional.interpolate(shift[None], spatial, mode="trilinear", align_corners=False)
    # grid_sample counts axes from the last one.
    grid = (_identity(spatial, [0, 0, 0])[None] + shift).flip(1).movedim(1, -1)
    return nn.functional.grid_sample(maps[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


def _identity(spatial: Sequence[int], margins: Sequence[int]) -> Tensor:
    """(3, *spatial) where each voxel lies: from -1 to 1 along each axis, and farther in the margins."""
    axes = [
        (2 * torch.arange(-margin, size + margin) + 1) / size - 1 for size, margin in zip(spatial, margins, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """On grids this small, starting SimpleITK's threads takes longer than the work."""
    from SimpleITK import ProcessObject

    before = ProcessObject.GetGlobalDefaultNumberOfThreads()
    ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        ProcessObject.SetGlobalDefaultNumberOfThreads(before)
