"""Simulated pairs of T1-weighted and T2-weighted brain slices, for translation between modalities.

Each pair is a dict of ``source`` (T1-weighted) and ``image`` (T2-weighted), both (1, 64, 64) float32 in [0, 1], and
``mask`` (1, 64, 64) int64 (0 background, 1 CSF, 2 grey matter, 3 white matter); pixels of 3 mm. **They are simulated**:
the tissue maps of ICBM152, several times deformed in the plane, go through the signal equation of a spin echo,

    S = PD (1 - exp(-TR / T1)) exp(-TE / T2),

a pixel's signal is the sum over its tissues weighted by their fractions, and both images get Rician noise of their own.
One brain: slices are held out by place, as in `torchgenaug.datasets.brain`.

Such a T2 is nearly a function of T1, pixel by pixel. With ``lesions=True`` it is not: slices get lesions in the white
matter that look like grey matter on T1 and bright on T2 (class 4 of the mask; their tissue values are chosen, not
measured), and each image a bias field of its own, so that the right T2 value depends on the surroundings.

References:
    Kwan, Evans, Pike (1999). MRI simulation-based evaluation of image-processing and classification methods. IEEE
    Transactions on Medical Imaging 18, 1085 (PD, T1, T2 of the tissues at 1.5 T, as BrainWeb uses them).
    Gudbjartsson, Patz (1995). The Rician distribution of noisy MRI data. Magnetic Resonance in Medicine 34, 910.
    Fonov et al. (2009): see `torchgenaug.datasets.brain`.
"""

from __future__ import annotations

import functools
import math
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from torchgenaug.datasets.brain import draw_deformation, load_volumes, slice_rows, to_slice
from torchgenaug.datasets.deform import deformed
from torchgenaug.datasets.outlines import draw_lesions
from torchgenaug.errors import ConfigurationError
from torchgenaug.seeding import derive

_TISSUES = ((1.0, 2569.0, 329.0), (0.86, 833.0, 83.0), (0.77, 500.0, 70.0))  # PD, T1 ms, T2 ms of CSF, grey, white
_T1_WEIGHTED, _T2_WEIGHTED = (500.0, 15.0), (4000.0, 100.0)  # TR ms, TE ms
_VARIANTS = {"train": 5, "held_out": 3}
_LESION = (0.86, 833.0, 160.0)  # T1 of grey matter, and a T2 about twice as long
_BIAS = 0.3  # a bias field lies between 1 - this and 1 + this, before it is scaled to at most 1
_NOISE = 0.01  # standard deviation, where the brightest tissue is 0.95
_BRIGHTEST = 0.95


class ContrastPair(TypedDict):
    """One pair: the sample type of `BrainContrasts`."""

    image: Tensor
    source: Tensor
    mask: Tensor


def spin_echo(repetition_ms: float, echo_ms: float) -> Tensor:
    """(4,) the signal of CSF, grey matter, white matter and lesions in a spin echo; 1 is that of water at rest."""
    return torch.tensor(
        [
            density * (1 - math.exp(-repetition_ms / t1_ms)) * math.exp(-echo_ms / t2_ms)
            for density, t1_ms, t2_ms in (*_TISSUES, _LESION)
        ]
    )


class BrainContrasts(Dataset[ContrastPair]):
    """Simulated pairs of one split, in memory.

    Args:
        split: ``"train"`` (70 places, 5 deformations each) or ``"held_out"`` (18 places, 3 each).
        lesions: with lesions, class 4 of the mask, and bias fields: no function of T1's intensity gives T2.

    Raises:
        ConfigurationError: another split.
        MissingExtraError: nilearn is not installed.
    """

    def __init__(self, split: str = "train", *, lesions: bool = False) -> None:
        if split not in _VARIANTS:
            raise ConfigurationError(f"`split` must be one of {list(_VARIANTS)}, got {split!r}.")
        self.places = [(row, variant) for row in slice_rows(split) for variant in range(_VARIANTS[split])]
        self.sources, self.images, self.masks = _pairs(split, lesions)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> ContrastPair:
        return {"image": self.images[index], "source": self.sources[index], "mask": self.masks[index]}


@functools.lru_cache(maxsize=4)
def _pairs(split: str, lesions: bool) -> tuple[Tensor, Tensor, Tensor]:
    volumes, deform = torch.from_numpy(load_volumes()), draw_deformation()
    fractions, masks = [], []
    for row in slice_rows(split):
        for variant in range(_VARIANTS[split]):
            seed = int(derive(row, variant))
            moved = deformed(volumes[..., row, None], deform, seed, spacing_mm=1.0, cell=12)[..., 0]
            fractions.append(nn.functional.avg_pool2d(moved[1:], 3))
            masks.append(to_slice(moved)[1])
    seed = list(_VARIANTS).index(split)
    return simulate(torch.stack(fractions), torch.stack(masks), seed, lesions=lesions)


def simulate(tissues: Tensor, masks: Tensor, seed: int, *, lesions: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """T1-weighted images, T2-weighted images, both (count, 1, height, width) in [0, 1], and masks.

    Args:
        tissues: (count, 3, height, width) fractions of CSF, grey and white matter.
        masks: (count, 1, height, width) int64, the tissue of each pixel.
        seed: of noise, lesions and bias fields.
        lesions: see `BrainContrasts`.
    """
    draw = torch.Generator().manual_seed(seed)
    healthy = nn.functional.pad(tissues, (0, 0, 0, 0, 0, 1))  # a fraction of 0 of lesions
    if not lesions:
        return _signal(healthy, _T1_WEIGHTED, draw), _signal(healthy, _T2_WEIGHTED, draw), masks
    outlines = torch.stack([draw_lesions(int(derive(seed, 7, k)) >> 1, mask) for k, mask in enumerate(masks)])
    outlines = outlines * tissues[:, 1:].sum(1, keepdim=True).clamp(0, 1)  # not into CSF or out of the brain
    only_lesion = torch.zeros_like(healthy)
    only_lesion[:, 3] = 1
    mixed = torch.lerp(healthy, only_lesion, outlines)
    t1, t2 = (
        (_signal(mixed, sequence, draw) * _bias_field(len(mixed), list(mixed.shape[2:]), draw)).clamp(0, 1)
        for sequence in (_T1_WEIGHTED, _T2_WEIGHTED)
    )
    return t1, t2, torch.where(outlines > 0.5, 4, masks)


def _bias_field(count: int, shape: list[int], draw: torch.Generator) -> Tensor:
    """(count, 1, *shape): smooth, between (1 - _BIAS) / (1 + _BIAS) and 1, so that nothing is cut off at 1."""
    coarse = torch.randn(count, 1, 4, 4, generator=draw)
    smooth = nn.functional.interpolate(coarse, shape, mode="bicubic", align_corners=True)
    return (1 + _BIAS * torch.tanh(smooth)) / (1 + _BIAS)


def _signal(tissues: Tensor, sequence: tuple[float, float], draw: torch.Generator) -> Tensor:
    """(count, 1, height, width) in [0, 1] of fractions (count, 4, height, width) of tissues and lesions."""
    signal = spin_echo(*sequence)
    clean = torch.einsum("nthw,t->nhw", tissues, signal * (_BRIGHTEST / signal[:3].max()))[:, None]
    real, imaginary = (torch.randn(clean.shape, generator=draw) * _NOISE for _ in range(2))
    return torch.hypot(clean + real, imaginary).clamp(0, 1)
