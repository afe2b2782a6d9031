"""Intensity histogram and power spectrum of a set: how bright and how sharp its images are."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchgenaug.metrics.features.contract import to_unit_range
from torchgenaug.metrics.features.texture import radial_log_power
from torchgenaug.trust.copies.describe import Images

_BINS, _BANDS = 64, 16
_FLAT = 1e-6  # of the value range: what is left of a constant after its conversion


@dataclass(frozen=True)
class Profile:
    """Mean intensity distribution and mean spectrum of a set.

    Attributes:
        histogram: share of the pixels in each of 64 equal bins of the value range.
        log_power: mean log10 power in each of 16 rings of spatial frequency, from 0 to half a cycle per pixel.
    """

    histogram: tuple[float, ...]
    log_power: tuple[float, ...]

    @property
    def fine_detail(self) -> float:
        """Mean log10 power of the upper half of the frequencies."""
        upper = self.log_power[len(self.log_power) // 2 :]
        return sum(upper) / len(upper)


def profile(images: Images, value_range: tuple[float, float]) -> Profile:
    """Profile of images (channels, *spatial), averaged over the images and their channels.

    Constant images count in the histogram alone, unless all are: the logarithm of no power at all would outweigh the
    others.
    """
    counts, power = torch.zeros(_BINS, dtype=torch.float64), torch.zeros(_BANDS, dtype=torch.float64)
    empty, num_drawn = torch.zeros(_BANDS, dtype=torch.float64), 0
    for row in range(len(images)):
        image = to_unit_range(torch.as_tensor(images[row]).float(), value_range)
        levels = (image * _BINS).long().clamp(0, _BINS - 1)
        counts += torch.bincount(levels.flatten(), minlength=_BINS).double() / levels.numel()
        spectrum = radial_log_power(image, _BANDS).double().mean(0)
        if bool(image.max() - image.min() <= _FLAT):
            empty = spectrum
        else:
            power, num_drawn = power + spectrum, num_drawn + 1
    power = power / num_drawn if num_drawn else empty
    return Profile(tuple((counts / len(images)).tolist()), tuple(power.tolist()))


def detail_ratio(synthetic: Profile, real: Profile) -> float:
    """Power of fine detail (more than a quarter of a cycle per pixel), synthetic over real: below 1 is blurred."""
    return float(10 ** (synthetic.fine_detail - real.fine_detail))
