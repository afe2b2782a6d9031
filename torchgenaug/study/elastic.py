"""`BatchElastic`: random smooth deformations of a whole batch at once, after `BatchAffine`.

References:
    Simard, Steinkraus, Platt (2003). Best practices for convolutional neural networks applied to visual document
    analysis. ICDAR (elastic distortions). Displacements of a coarse grid are interpolated here, as in TorchIO.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from torchgenaug import seeding
from torchgenaug.study.transforms import BatchAffine

_STREAM = 0x57D4


@dataclass(frozen=True)
class BatchElastic:
    """Random elastic deformations in 2D or 3D, one for each sample, by one `grid_sample` for the batch.

    Attributes:
        knots: points of the coarse grid along each axis; those at the border do not move.
        displacement: of a point along each axis at most, as a fraction of the image. Below 1 / (2 (knots - 1)) the
            image does not fold.
        affine: turns, zooms and shifts, drawn independently, in the same resampling.
    """

    knots: int = 7
    displacement: float = 0.06
    affine: BatchAffine = field(default_factory=BatchAffine)

    def __call__(self, images: Tensor, seeds: npt.NDArray[np.uint64]) -> Tensor:
        """Images (batch, channels, *spatial); integers, such as label maps, keep their values (nearest)."""
        axes, batch = images.ndim - 2, len(images)
        exact = images if images.is_floating_point() else images.double()
        grid = functional.affine_grid(
            self.affine.matrices(seeds, axes).to(exact), list(images.shape), align_corners=False
        )
        inner = self.knots - 2
        draws = seeding.uniform(seeding.derive(seeds, _STREAM), axes * inner**axes)
        moves = torch.from_numpy(2 * draws - 1).to(exact).view(batch, axes, *[inner] * axes)
        moves = functional.pad(2 * self.displacement * moves, [1, 1] * axes)
        mode = "bilinear" if axes == 2 else "trilinear"
        moves = functional.interpolate(moves, list(images.shape[2:]), mode=mode, align_corners=True)
        moved = functional.grid_sample(
            exact,
            grid + moves.movedim(1, -1),
            mode="bilinear" if images.is_floating_point() else "nearest",
            align_corners=False,
        )
        return moved.to(images.dtype)
