"""Brain slices with **simulated** lesions: real T1-weighted anatomy, drawn lesions.

Slices of the ICBM152 T1 template, deformed in the plane, 64 x 64 pixels of 3 mm as in `torchgenaug.datasets.brain`. In
each a lesion can be drawn into the white matter: its outline is a circle of 6 to 15 mm whose radius varies with the
angle, its border is blurred, and its intensity lies between those of CSF and grey matter, with a texture of its own, so
that a threshold does not find it. They are drawings, and no evidence about any disease. One brain: slices are held out
by place.

References:
    Fonov et al. (2009): see `torchgenaug.datasets.brain`.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from torchgenaug.datasets.brain import draw_deformation, load_volumes, slice_rows, to_slice
from torchgenaug.datasets.deform import deformed
from torchgenaug.datasets.outlines import LEAST_PIXELS, WHITE, draw_outline
from torchgenaug.errors import ConfigurationError
from torchgenaug.seeding import derive

_VARIANTS = {"train": 2, "held_out": 4}
_TEXTURE = 0.05


@functools.lru_cache(maxsize=2)
def brain_slices(split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Healthy slices with enough white matter: images (n, 1, 64, 64), tissue masks (n, 1, 64, 64) int64, and ids.

    Args:
        split: ``"train"`` or ``"held_out"``.

    Raises:
        ConfigurationError: another split.
        MissingExtraError: nilearn is not installed.
    """
    if split not in _VARIANTS:
        raise ConfigurationError(f"`split` must be one of {list(_VARIANTS)}, got {split!r}.")
    volumes, deform = torch.from_numpy(load_volumes()), draw_deformation()
    images, masks, ids = [], [], []
    for row in slice_rows(split):
        for variant in range(_VARIANTS[split]):
            seed = int(derive(row, 100 + variant))
            image, mask = to_slice(deformed(volumes[..., row, None], deform, seed, spacing_mm=1.0, cell=12)[..., 0])
            if int((mask == WHITE).sum()) >= LEAST_PIXELS:
                images.append(image)
                masks.append(mask)
                ids.append(f"ICBM152 axial row {row} lesion deformation {variant}")
    return torch.stack(images), torch.stack(masks), tuple(ids)


def draw_lesion(seed: int, image: Tensor, tissue: Tensor) -> tuple[Tensor, Tensor]:
    """The image with one lesion, and the lesion's mask (1, 64, 64) int64.

    Args:
        seed: of everything that is drawn.
        image: (1, 64, 64) in [0, 1], of a healthy slice.
        tissue: (1, 64, 64) integer mask of tissues.
    """
    outline = draw_outline(seed, tissue)
    draw = torch.Generator().manual_seed(seed + 1)
    white = float(image[tissue == WHITE].median())
    level = white * (0.45 + 0.25 * float(torch.rand(1, generator=draw)))
    coarse = torch.randn(1, 1, 16, 16, generator=draw)
    texture = nn.functional.interpolate(coarse, list(image.shape[1:]), mode="bicubic", align_corners=False)[0]
    opacity = outline * (0.75 + 0.25 * math.sqrt(float(torch.rand(1, generator=draw))))
    return torch.lerp(image, level + _TEXTURE * texture, opacity).clamp(0, 1), (outline > 0.5).long()
