"""U-Net that deforms an image towards a class: nothing is painted, everything is moved, and nothing folds.

Pombo et al. (2023), "Equitable modelling of brain imaging by counterfactual augmentation with morphologically
constrained 3D deep generative models" (CounterSynth), Medical Image Analysis 84, section 2: the network predicts a
velocity; its integral is a diffeomorphism, by scaling and squaring (Arsigny et al., 2006, "A log-Euclidean framework
for statistics on diffeomorphisms", MICCAI, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.nets.translation import TranslationUNet

# Steeper velocities fold between pixels, though their continuous integral does not: of finer grids (8 cells at half the
# reach) random velocities from one end of the range to the other did in 3D, of this one none.
_REACH = 0.2  # largest velocity, in units of half a side
_CELLS = 4  # of the velocity's grid, per axis
_SQUARINGS = 6
_MODES = {2: "bilinear", 3: "trilinear"}
_POOLS = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


class DeformationUNet(nn.Module):
    """Images and wanted classes → the images, deformed. Called ``(images, labels)``.

    Args:
        shape: (channels, *spatial) of an image, 2D or 3D.
        num_classes: classes.
        width: as in `TranslationUNet`.
        value_range: of the images.
    """

    def __init__(
        self, *, shape: Sequence[int], num_classes: int, width: int = 32, value_range: Sequence[float] = (-1.0, 1.0)
    ) -> None:
        super().__init__()
        channels, *spatial = shape
        self.num_classes = num_classes
        self.low, self.high = value_range
        self.field = TranslationUNet(in_channels=channels + num_classes, shape=[len(spatial), *spatial], width=width)
        with torch.no_grad():  # training begins near the identity
            self.field.leave.weight.mul_(0.01)
            nn.init.zeros_(self.field.leave.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Deformed images (batch, *shape) of images in `value_range` and labels int64 (batch,)."""
        return moved(images, self.displacement(images, labels)).clamp(self.low, self.high)

    def displacement(self, images: Tensor, labels: Tensor) -> Tensor:
        """Where each voxel comes from, relative to itself: (batch, dims, *spatial) in half sides, last axis first."""
        symmetric = (images - (self.high + self.low) / 2) * (2 / (self.high - self.low))
        one_hot = functional.one_hot(labels, self.num_classes).to(images.dtype)
        maps = one_hot[(...,) + (None,) * (images.ndim - 2)].expand(-1, -1, *images.shape[2:])
        velocity = self.field(torch.cat([symmetric, maps], 1)) * _REACH
        coarse = _POOLS[images.ndim - 2](velocity, [max(1, size // _CELLS) for size in images.shape[2:]])
        mode = _MODES[images.ndim - 2]
        step: Tensor = functional.interpolate(coarse, images.shape[2:], mode=mode, align_corners=True) / 2**_SQUARINGS
        for _ in range(_SQUARINGS):
            step = step + moved(step, step)
        return step


def moved(images: Tensor, displacement: Tensor) -> Tensor:
    """`images` (batch, channels, *spatial) taken from `displacement` away, linearly; beyond the border its value."""
    identity = functional.affine_grid(
        torch.eye(images.ndim - 2, images.ndim - 1, device=images.device, dtype=images.dtype).expand(
            len(images), -1, -1
        ),
        [len(images), 1, *images.shape[2:]],
        align_corners=False,
    )
    return functional.grid_sample(
        images, identity + displacement.movedim(1, -1), padding_mode="border", align_corners=False
    )


def volume_change(displacement: Tensor) -> Tensor:
    """Determinant of the Jacobian of x + u(x), at all places but the last of each axis: (batch, *(spatial - 1)).

    1 where volume is kept, negative where the field folds.

    Args:
        displacement: (batch, dims, *spatial) in half sides, last axis first.
    """
    dims = displacement.ndim - 2
    field = displacement.flip(1)
    rows = []
    for axis in range(dims):
        size = displacement.shape[2 + axis]
        ahead = field.diff(dim=2 + axis) * (size / 2)
        for other in range(dims):
            if other != axis:
                ahead = ahead.narrow(2 + other, 0, displacement.shape[2 + other] - 1)
        # In voxels of the component's own axis.
        scale = torch.tensor([displacement.shape[2 + k] / size for k in range(dims)], device=field.device)
        rows.append(ahead * scale.view(1, -1, *[1] * dims))
    jacobian = torch.stack(rows, 2).movedim((1, 2), (-2, -1))
    change: Tensor = torch.linalg.det(jacobian.float() + torch.eye(dims, device=field.device))
    return change
