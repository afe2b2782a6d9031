"""Resampling to one spacing, by TorchIO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError


def resample(
    sample: Mapping[str, Tensor], spacing_mm: Sequence[float] | None, wanted_mm: Sequence[float], place: str
) -> dict[str, Tensor]:
    """The sample with its pixels `wanted_mm` apart: images linearly and antialiased, masks by the nearest value.

    Args:
        sample: (channels, *spatial) tensors on one grid.
        spacing_mm: of that grid; None: unknown.
        wanted_mm: one per spatial axis.
        place: for errors.

    Raises:
        ConfigurationError: an unknown spacing, named.
    """
    dims = sample["image"].ndim - 1
    if spacing_mm is None or len(spacing_mm) != dims:
        raise ConfigurationError(
            f"`spacing` must be left out where files do not state theirs, got {tuple(wanted_mm)} for {place}. Leave "
            "--spacing out, or save the images in a format that keeps it (NIfTI, MetaImage, NRRD, DICOM)."
        )
    if all(abs(have - want) < 1e-4 * want for have, want in zip(spacing_mm, wanted_mm, strict=True)):
        return dict(sample)
    import torchio

    library: Any = torchio
    affine = torch.diag(torch.tensor([*spacing_mm, *[1.0] * (4 - dims)], dtype=torch.float64))
    flat = dims == 2
    images = {
        name: (library.LabelMap if name == "mask" else library.ScalarImage)(
            tensor=(values[..., None] if flat else values).float(), affine=affine
        )
        for name, values in sample.items()
    }
    if all(values.shape[1:] == sample["image"].shape[1:] for values in sample.values()):
        target = tuple(float(each) for each in wanted_mm) + ((1.0,) if flat else ())
        images = dict(library.Resample(target, antialias=True)(library.Subject(**images)))
    return {
        name: _typed(images[name].data[..., 0] if flat else images[name].data, values)
        for name, values in sample.items()
    }


def _typed(moved: Tensor, before: Tensor) -> Tensor:
    if before.dtype.is_floating_point:
        return moved
    limits = torch.iinfo(before.dtype)
    return moved.round().clamp(limits.min, limits.max).to(before.dtype)
