"""Compares the intensities of real and synthetic samples as they pass by, before much is trained on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from torchgenaug.errors import IntensityMismatchWarning
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.pil_images import is_picture
from torchgenaug.types import FieldKind

_LEAST_OVERLAP = 0.2
_NO_CLASS = 32  # numbers of masks from which on they are grey levels
_FEW = 8  # samples of either kind that are compared
_KEPT_VALUES = 100_000  # of a sample, evenly spaced


class IntensityWatch:
    """Looks at the first few real and synthetic samples that it is shown, and warns once where they hardly overlap.

    Args:
        layout: layout of both.
        kinds: name → what the field holds.
    """

    def __init__(self, layout: SampleLayout, kinds: Mapping[str, FieldKind]) -> None:
        self._layout = layout
        self._images = tuple(name for name, kind in kinds.items() if kind == "intensity")
        self._masks = tuple(name for name, kind in kinds.items() if kind == "label_map")
        self._seen: tuple[list[dict[str, torch.Tensor]], list[dict[str, torch.Tensor]]] = ([], [])

    @property
    def is_done(self) -> bool:
        """Whether enough samples were seen."""
        return not (self._images or self._masks) or all(len(side) >= _FEW for side in self._seen)

    def will_be_done(self, num_synthetic: int, num_samples: int) -> bool:
        """Whether it will have seen enough after these."""
        real, synthetic = map(len, self._seen)
        return real + num_samples - num_synthetic >= _FEW and synthetic + num_synthetic >= _FEW

    def show(self, samples: Iterable[Any], synthetic: Iterable[bool], *, stacklevel: int) -> None:
        """Looks at samples; warns with the last one that it needs."""
        for sample, is_synthetic in zip(samples, synthetic, strict=True):
            side = self._seen[is_synthetic]
            if len(side) < _FEW:
                values = self._layout.split(sample[0] if self._layout.crops else sample)
                self._images = tuple(name for name in self._images if _is_image(values[name]))
                self._masks = tuple(name for name in self._masks if _is_image(values[name]))
                side.append({name: _thinned(values[name]) for name in (*self._images, *self._masks)})
        if self.is_done:
            for name in self._images:
                real, fake = ([one[name] for one in side] for side in self._seen)
                warn_if_ranges_differ(real, fake, name, stacklevel + 1)
            for name in self._masks:
                real, fake = ([one[name] for one in side] for side in self._seen)
                _warn_if_numbers_differ(real, fake, name, stacklevel + 1)


def _is_image(value: Any) -> bool:
    """Whether a value is an image, and no class, tuple or dict of the user's that holds one."""
    return isinstance(value, (torch.Tensor, np.ndarray)) or is_picture(value)


def _warn_if_numbers_differ(
    real: Sequence[torch.Tensor], synthetic: Sequence[torch.Tensor], mask: str, stacklevel: int
) -> None:
    """Warns when masks of one kind are 0 and 255 (or another number), and those of the other kind 0 and 1."""
    numbers = [sorted(set(torch.unique(torch.cat(list(samples))).tolist()) - {0.0}) for samples in (real, synthetic)]
    if any(len(each) != 1 for each in numbers) or min(numbers)[0] != 1 or max(numbers)[0] < _NO_CLASS:
        return
    shown = [f"0 and {each[0]:g}" for each in numbers]
    side, transform = ("real", "real_transform") if numbers[0] > numbers[1] else ("synthetic", "synthetic_transform")
    warnings.warn(
        f"Field {mask!r} has other numbers for the same areas: real {shown[0]}, synthetic {shown[1]} (a few samples). "
        f"A loss would take them for two classes. Divide the {side} ones by {max(numbers)[0]:g}, in `{transform}` or "
        "in the data set.",
        IntensityMismatchWarning,
        stacklevel=stacklevel,
    )


def warn_if_intensities_differ(real: Sequence[Any], synthetic: Sequence[Any], layout: SampleLayout, image: str) -> None:
    """`warn_if_ranges_differ` for a field of samples of a layout."""
    sides = [[_thinned(layout.split(sample)[image]) for sample in samples] for samples in (real, synthetic)]
    warn_if_ranges_differ(sides[0], sides[1], image, stacklevel=5)


def warn_if_ranges_differ(
    real: Sequence[torch.Tensor], synthetic: Sequence[torch.Tensor], image: str, stacklevel: int
) -> None:
    """Warns when the 1 % to 99 % ranges of real and synthetic values hardly overlap.

    "Hardly" is an intersection below 20 % of the union: [0, 1] against [0, 255] warns, a darker scanner does not.

    Args:
        real: values of a few real samples, flat.
        synthetic: values of a few synthetic samples, flat.
        image: name of the intensity field.
        stacklevel: as that of `warnings.warn`.
    """
    ranges = []
    for samples in (real, synthetic):
        every = torch.cat(list(samples))
        every = every[every.isfinite()]  # NaN is a common background
        if not len(every):
            return
        low, high = torch.quantile(every, torch.tensor([0.01, 0.99])).tolist()
        ranges.append((low, high))
    (real_low, real_high), (low, high) = ranges
    union = max(real_high, high) - min(real_low, low)
    overlap = min(real_high, high) - max(real_low, low)
    if union == 0 or overlap / union >= _LEAST_OVERLAP:
        return
    warnings.warn(
        f"Field {image!r} has grossly different intensities: real [{real_low:.4g}, {real_high:.4g}], synthetic "
        f"[{low:.4g}, {high:.4g}] (1 % to 99 % of a few samples). A network can tell real from synthetic by brightness "
        "alone. Align them, for example with synthetic_transform=tio.RescaleIntensity("
        f"out_min_max=({real_low:.4g}, {real_high:.4g}), in_min_max=({low:.4g}, {high:.4g})).",
        IntensityMismatchWarning,
        stacklevel=stacklevel,
    )


def _thinned(value: Any) -> torch.Tensor:
    """A hundred thousand values at most, evenly spaced: `torch.quantile` refuses more than 16 million."""
    tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value, np.float32))
    flat = tensor.detach().as_subclass(torch.Tensor).cpu().flatten()
    return flat[:: max(1, -(-len(flat) // _KEPT_VALUES))].float().clone()
