"""Images and numbers that a diffusion model of MONAI is conditioned on: how they reach the networks.

Three ways of an image: concatenated to the noisy input, through a ControlNet, as the segmentation of SPADE layers.
Numbers of the patient (age, sex, volumes) go through cross-attention, as constant channels, or both.

References:
    Saharia et al. (2022). Palette: image-to-image diffusion models. SIGGRAPH (concatenation).
    Zhang, Rao, Agrawala (2023). Adding conditional control to text-to-image diffusion models. ICCV (ControlNet).
    Park et al. (2019). Semantic image synthesis with spatially-adaptive normalization. CVPR (SPADE).
    Pinaya et al. (2022). Brain imaging generation with latent diffusion models. MICCAI DGM4 (covariates, both ways).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.image_conditions import given
from torchgenaug.types import Batch


def reduced(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """`image` (batch, channels, *spatial) as means over blocks: of a one-hot mask the share of each class.

    What is concatenated to the latents of a latent diffusion model must be made in this way in training, too.
    """
    if tuple(image.shape[2:]) == size:
        return image
    pool: Any = functional.adaptive_avg_pool2d if len(size) == 2 else functional.adaptive_avg_pool3d
    return cast(Tensor, pool(image, size))


def in_network_range(image: Tensor, value_range: tuple[float, float], network_range: tuple[float, float]) -> Tensor:
    """Intensities in `value_range` as the networks know them: linearly in `network_range`."""
    (low, high), (bottom, top) = value_range, network_range
    scale = (top - bottom) / (high - low)
    return image.float().mul(scale).add_(bottom - low * scale)


def checked_mask_classes(mask_classes: int | None) -> None:
    """Raises `ConfigurationError` unless None or an integer of at least 2."""
    if mask_classes is None:
        return
    if isinstance(mask_classes, bool) or not isinstance(mask_classes, int) or mask_classes < 2:
        raise ConfigurationError(
            f"`mask_classes` must be an integer of at least 2, the background included, got {mask_classes!r}. "
            "Leave it out for a model without masks."
        )


def checked_covariates(covariates: Mapping[str, tuple[float, float]] | None) -> dict[str, tuple[float, float]]:
    """Name → (low, high), floats; raises `ConfigurationError` for an empty or infinite range or a name in use."""
    checked = {}
    for name, limits in (covariates or {}).items():
        try:
            low, high = (float(limit) for limit in limits)
        except (TypeError, ValueError):
            low = high = math.nan
        if name in ("label", "mask", "source", "image") or not (
            math.isfinite(low) and math.isfinite(high) and low < high
        ):
            raise ConfigurationError(
                "`covariates` must map names of scalar conditions to (low, high), finite, low < high, got "
                f"{name!r}: {limits!r}. The network sees (value - low) / (high - low): {{'age': (0, 100), "
                "'sex': (0, 1)}."
            )
        checked[name] = (low, high)
    return checked


def given_covariates(conditions: Batch | None, count: int, covariates: Mapping[str, tuple[float, float]]) -> Tensor:
    """The covariates, each scaled to [0, 1] by its range: (count, number of covariates) float32, in their order.

    Raises:
        ConfigurationError: one that is missing, of another shape, or out of its range.
    """
    columns = []
    for name, (low, high) in covariates.items():
        values = given(name, conditions, f"the covariates {', '.join(covariates)}")
        if tuple(values.shape) != (count,) or values.is_complex():
            raise ConfigurationError(
                f"`conditions[{name!r}]` must be one number per sample, shape ({count},), got shape "
                f"{tuple(values.shape)}. Flatten it."
            )
        wrong = ~((values >= low) & (values <= high))
        if wrong.any():
            raise ConfigurationError(
                f"`conditions[{name!r}]` must lie in [{low:g}, {high:g}], got {values[wrong][0].item():g} at position "
                f"{int(wrong.nonzero()[0, 0])}. The model never saw such a value. Restrict the conditions to the range."
            )
        columns.append((values.to(torch.float64) - low) / (high - low))
    return torch.stack(columns, 1).to(torch.float32)
