"""A look at the intensities of real and synthetic samples side by side, before they are trained on together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from torchgenaug.errors import IntensityMismatchWarning
from torchgenaug.samples.layout import SampleLayout

_LEAST_OVERLAP = 0.2


def warn_if_intensities_differ(real: Sequence[Any], synthetic: Sequence[Any], layout: SampleLayout, image: str) -> None:
    """Warns when the 1 % to 99 % ranges of a field in real and synthetic samples hardly overlap.

    "Hardly" is an intersection below 20 % of the union: [0, 1] against [0, 255] warns, a darker scanner does not.

    Args:
        real: a few real samples.
        synthetic: a few synthetic samples.
        layout: their layout.
        image: name of the intensity field.
    """
    ranges = []
    for samples in (real, synthetic):
        values = [torch.as_tensor(layout.split(sample)[image]).float().flatten() for sample in samples]
        every = torch.cat(values)
        every = every[every.isfinite()]  # NaN is a common background
        if not len(every):
            return
        low, high = torch.quantile(_thinned(every), torch.tensor([0.01, 0.99])).tolist()
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
        stacklevel=4,
    )


def _thinned(values: torch.Tensor, most: int = 1_000_000) -> torch.Tensor:
    """At most `most` values, evenly spaced: `torch.quantile` refuses more than 16 million."""
    return values[:: max(1, -(-len(values) // most))]
