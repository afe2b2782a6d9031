"""`mild_affine`: small random affine transforms of whole batches, each sample's drawn from its own seed.

TorchIO does the same sample by sample in several milliseconds each (pad, affine, crop of 64 x 64), which together is
what a training step of a small network takes; one `grid_sample` takes about a millisecond for the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torchgenaug.seeding import UInt64Array, uniform
from torchgenaug.types import Batch, FieldSpec

_DEGREES, _SCALE, _SHIFT = 7.0, 0.06, 0.04


def mild_affine(batch: Batch, fields: Mapping[str, FieldSpec], seeds: UInt64Array, *, spare: float = 0.0) -> Batch:
    """Turns by up to 7°, scales by up to 6 %, shifts by up to 4 % of the side; image, mask and source alike.

    No flips: a mirrored body is another body (heart on the right), and a mirrored digit none. What comes in from
    outside of the image is its reflection, not a constant: a generator would learn the dark wedges. Volumes turn about
    their last axis.

    Args:
        batch: tensors (batch, channels, *spatial) and scalars.
        fields: what they are: intensities are interpolated linearly, label maps take the nearest value.
        seeds: (batch,) one per sample.
        spare: share of the samples that are left as they are.
    """
    images = {name: spec for name, spec in fields.items() if spec.kind != "scalar" and name in batch}
    if not images:
        return batch
    dims = len(next(iter(images.values())).shape) - 1
    numbers = torch.from_numpy(drawn_numbers(seeds, dims, spare=spare))
    return {
        name: moved(values, numbers, nearest=images[name].kind != "intensity") if name in images else values
        for name, values in batch.items()
    }


def moved(values: Tensor, numbers: Tensor, *, nearest: bool = False) -> Tensor:
    """Images turned, scaled and shifted by given numbers; gradients pass.

    Args:
        values: (batch, channels, *spatial).
        numbers: (batch, 1 + 2 · axes) of `drawn_numbers`; where all are zero, the image stays as it is, to the bit.
        nearest: take the nearest value, as label maps need; else interpolate linearly.
    """
    spatial = values.shape[2:]
    matrices = _matrices(numbers, spatial)
    grid = nn.functional.affine_grid(matrices, [len(values), 1, *spatial], align_corners=False)
    mode = "nearest" if nearest else "bilinear"
    sampled = nn.functional.grid_sample(values.float(), grid, mode=mode, padding_mode="reflection", align_corners=False)
    moves = numbers.any(1).view(-1, *[1] * (values.ndim - 1))
    return torch.where(moves, sampled.to(values.dtype), values)


def drawn_numbers(seeds: UInt64Array, dims: int, *, spare: float = 0.0) -> npt.NDArray[np.float64]:
    """What `mild_affine` draws for each seed: (len(seeds), 1 + 2 · `dims`) in [-1, 1).

    The turn, the scale of each axis and its shift, as parts of the largest; zeros are an image left as it is.
    """
    numbers = uniform(seeds, 2 + 2 * dims)
    drawn: npt.NDArray[np.float64] = 2 * numbers[:, :-1] - 1
    return np.where(numbers[:, -1:] < spare, 0.0, drawn)


def _matrices(numbers: Tensor, spatial: Sequence[int]) -> Tensor:
    """(batch, d, d + 1) maps from places in the new image to places in the old one, in units of half a side."""
    dims = len(spatial)
    numbers = numbers.float()  # Apple's MPS has no float64
    angles = numbers[:, 0] * math.radians(_DEGREES)
    # affine_grid counts axes from the last one: x is the last spatial axis. The turn is in the plane of the image's
    # first two, which are the last two of x, y, z.
    sides = spatial[::-1]
    turn = torch.eye(dims, device=numbers.device).repeat(len(numbers), 1, 1)
    one, two = (0, 1) if dims == 2 else (1, 2)
    turn[:, one, one] = turn[:, two, two] = angles.cos()
    turn[:, one, two] = -angles.sin() * sides[two] / sides[one]
    turn[:, two, one] = angles.sin() * sides[one] / sides[two]
    scales = 1 + _SCALE * numbers[:, 1 : 1 + dims]
    shifts = 2 * _SHIFT * numbers[:, 1 + dims :]  # a side is 2 units long
    return torch.cat([turn * scales[:, None], shifts[:, :, None]], 2)
