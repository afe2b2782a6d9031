"""`BatchAffine`: random turns, zooms and shifts of a whole batch at once, on the device where its images are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from torchgenaug import seeding
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset

_STREAM = 0x57D1  # keeps these draws apart from those of a mix with the same seed


@dataclass(frozen=True)
class BatchAffine:
    """Random affine transforms of images in 2D or 3D, one for each sample, by `torch.nn.functional.grid_sample`.

    A batch of 32 images of 32 x 32 takes one call, where TorchIO transforms sample by sample. Outside an image is 0.

    Attributes:
        degrees: turns are drawn in [-degrees, degrees]; in 3D about each axis.
        scale: zooms are drawn in [1 - scale, 1 + scale].
        shift: shifts are drawn in [-shift, shift], as a fraction of the image.
    """

    degrees: float = 12.0
    scale: float = 0.1
    shift: float = 0.06

    def __call__(self, images: Tensor, seeds: npt.NDArray[np.uint64]) -> Tensor:
        """Images (batch, channels, *spatial) under the transforms that `seeds` (batch,) draw.

        Floating-point images are interpolated linearly; integers, such as label maps, keep their values (nearest).
        """
        grid = functional.affine_grid(
            self.matrices(seeds, images.ndim - 2).to(images.device), list(images.shape), align_corners=False
        )
        mode = "bilinear" if images.is_floating_point() else "nearest"
        moved = functional.grid_sample(
            images if images.is_floating_point() else images.double(),
            grid.to(images.dtype if images.is_floating_point() else torch.float64),
            mode=mode,
            align_corners=False,
        )
        return moved.to(images.dtype)

    def matrices(self, seeds: npt.NDArray[np.uint64], axes: int) -> Tensor:
        """(batch, axes, axes + 1): where each output point is read, in coordinates from -1 to 1 as in `affine_grid`."""
        planes = [(0, 1)] if axes == 2 else [(0, 1), (0, 2), (1, 2)]
        draws = torch.from_numpy(2 * seeding.uniform(seeds, len(planes) + 1 + axes) - 1)
        matrix = torch.eye(axes, dtype=torch.float64).repeat(len(draws), 1, 1)
        for k, (first, second) in enumerate(planes):
            angle = draws[:, k] * math.radians(self.degrees)
            turn = torch.eye(axes, dtype=torch.float64).repeat(len(draws), 1, 1)
            turn[:, first, first] = turn[:, second, second] = angle.cos()
            turn[:, first, second], turn[:, second, first] = -angle.sin(), angle.sin()
            matrix = matrix @ turn
        matrix = matrix / (1 + draws[:, len(planes), None, None] * self.scale)
        shift = 2 * self.shift * draws[:, len(planes) + 1 :, None]
        return torch.cat([matrix, shift], 2).float()


BatchTransform: TypeAlias = Callable[[Tensor, npt.NDArray[np.uint64]], Tensor]
"""Images (batch, channels, *spatial) and seeds (batch,) → images, such as `BatchAffine`."""


class BatchTransformed(Dataset[Any]):
    """Samples of a mix under a batch transform; a `DataLoader` has each batch transformed in one call.

    Tensors of a sample with channels and at least two spatial axes are transformed, all in the same way; numbers and
    labels stay. A transform is a function of (seed of the mix, epoch, index).

    Args:
        mix: gives samples as tuples or dicts of tensors, and the epoch.
        transform: images (batch, channels, *spatial) and seeds (batch,) → images.
    """

    def __init__(self, mix: SyntheticMixDataset, transform: BatchTransform) -> None:
        self.mix, self.transform = mix, transform

    def __len__(self) -> int:
        return len(self.mix)

    def set_epoch(self, epoch: int) -> None:
        """See `SyntheticMixDataset.set_epoch`."""
        self.mix.set_epoch(epoch)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A batch of samples."""
        samples = self.mix.__getitems__(indices)
        seeds = seeding.derive(self.mix.plan.seed, _STREAM, self.mix.epoch, np.asarray(indices, np.int64))
        first = samples[0]
        keys = list(first) if isinstance(first, Mapping) else list(range(len(first)))
        columns = {key: [sample[key] for sample in samples] for key in keys}
        for key, values in columns.items():
            if all(isinstance(value, Tensor) and value.ndim >= 3 for value in values):
                columns[key] = list(self.transform(torch.stack(values), seeds).unbind(0))
        rows = [[column[k] for column in columns.values()] for k in range(len(samples))]
        if isinstance(first, Mapping):
            return [dict(zip(keys, row, strict=True)) for row in rows]
        return [tuple(row) for row in rows]
