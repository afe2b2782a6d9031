"""Outlines of simulated lesions in the white matter."""

from __future__ import annotations

import torch
from torch import Tensor

WHITE = 3
"""Class of white matter in a tissue mask."""
LEAST_PIXELS = 150
"""Pixels of white matter in a slice that can hold a lesion."""
_MOST = 3


def draw_outline(seed: int, tissue: Tensor, *, roughness: float = 0.35) -> Tensor:
    """A blob in the white matter: (1, 64, 64) in [0, 1], blurred at its border; above 0.5 is inside.

    Args:
        seed: of place, size and shape.
        tissue: (1, 64, 64) integer mask of tissues.
        roughness: how much the radius varies with the angle; 0 gives circles.
    """
    draw = torch.Generator().manual_seed(seed)
    inside = (tissue[0] == WHITE).nonzero()
    centre = inside[int(torch.randint(len(inside), (1,), generator=draw))].float()
    radius = 2 + 3 * float(torch.rand(1, generator=draw))
    waves = torch.randn(4, 2, generator=draw) / torch.arange(1, 5)[:, None].sqrt()
    rows, columns = torch.meshgrid(*(torch.arange(size).float() for size in tissue.shape[1:]), indexing="ij")
    y, x = rows - centre[0], columns - centre[1]
    angle = torch.atan2(y, x)
    shape = torch.zeros_like(angle)
    for k, (a, b) in enumerate(waves, start=1):
        shape += a * (k * angle).cos() + b * (k * angle).sin()
    edge = radius * (1 + roughness * torch.tanh(shape))
    return (0.5 + (edge - torch.hypot(x, y)) / 2).clamp(0, 1)[None]


def draw_lesions(seed: int, tissue: Tensor) -> Tensor:
    """One to three blobs in one image: (1, 64, 64) in [0, 1]; all 0 where there is too little white matter.

    Args:
        seed: of number, places, sizes and shapes.
        tissue: (1, 64, 64) integer mask of tissues.
    """
    if int((tissue == WHITE).sum()) < LEAST_PIXELS:
        return torch.zeros(tissue.shape)
    count = 1 + seed % _MOST
    return torch.stack([draw_outline(seed + 1 + k, tissue) for k in range(count)]).amax(0)
