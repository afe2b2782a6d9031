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
from torchgenaug.synthesizers.diffusers import OVERSHOOT
from torchgenaug.types import Batch, FieldSpec


def one_hot(mask: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class masks as channels: (batch, 1, *spatial) integers → (batch, `classes`, *spatial) of 0 and 1."""
    mask = mask.to(torch.int64)
    return torch.zeros((mask.shape[0], classes, *mask.shape[2:]), dtype=dtype, device=mask.device).scatter_(1, mask, 1)


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


def checked_source(source: FieldSpec | None, size: tuple[int, ...]) -> None:
    """Raises `ConfigurationError` unless None or the spec of a floating-point image of `size` with a value range."""
    if source is None:
        return
    fits = isinstance(source, FieldSpec) and source.kind == "intensity" and source.dtype.is_floating_point
    if not fits or source.value_range is None or source.shape[1:] != size:
        raise ConfigurationError(
            f"`source` must be the FieldSpec of a floating-point image of the spatial size {size} with a value range, "
            f"got {source}. For example FieldSpec({(1, *size)}, value_range=(0, 1))."
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


def given_mask(conditions: Batch | None, count: int, size: tuple[int, ...], classes: int) -> Tensor:
    """The condition ``mask``, checked: (count, 1, *size), integers in [0, classes).

    Raises:
        ConfigurationError: none, of another shape or dtype, or with classes that the model does not know.
    """
    mask = _given("mask", conditions, f"masks of {classes} classes")
    if mask.is_floating_point() or mask.is_complex() or tuple(mask.shape) != (count, 1, *size):
        raise ConfigurationError(
            f"`conditions['mask']` must be an integer tensor of shape {(count, 1, *size)}, got {mask.dtype} of shape "
            f"{tuple(mask.shape)}. Resize the masks (nearest neighbour) and convert them with .to(torch.int64)."
        )
    wrong = (mask < 0) | (mask >= classes)
    if wrong.any():
        raise ConfigurationError(
            f"`conditions['mask']` must hold classes in [0, {classes}), got {mask[wrong][0].item()} at position "
            f"{int(wrong.nonzero()[0, 0])}. The model never saw that class. Map the classes of the data to its own."
        )
    return mask


def given_source(conditions: Batch | None, count: int, spec: FieldSpec) -> Tensor:
    """The condition ``source``, checked: (count, *shape), floating point, in its range (with a little overshoot).

    Raises:
        ConfigurationError: none, of another shape or dtype, or with NaN, Inf or foreign intensities.
    """
    source = _given("source", conditions, f"source images {spec}")
    if not source.is_floating_point() or tuple(source.shape) != (count, *spec.shape):
        raise ConfigurationError(
            f"`conditions['source']` must be a floating-point tensor of shape {(count, *spec.shape)}, got "
            f"{source.dtype} of shape {tuple(source.shape)}. Resize or convert the images."
        )
    low, high = spec.value_range or (-math.inf, math.inf)
    margin = OVERSHOOT * (high - low)
    least, most = (extreme.item() for extreme in torch.aminmax(source))
    if not (low - margin <= least and most <= high + margin):
        raise ConfigurationError(
            f"`conditions['source']` must hold intensities in [{low:g}, {high:g}], got [{least:g}, {most:g}]. The "
            "model never saw such images. Rescale them, or state their range in `source`."
        )
    return source


def given_covariates(conditions: Batch | None, count: int, covariates: Mapping[str, tuple[float, float]]) -> Tensor:
    """The covariates, each scaled to [0, 1] by its range: (count, number of covariates) float32, in their order.

    Raises:
        ConfigurationError: one that is missing, of another shape, or out of its range.
    """
    columns = []
    for name, (low, high) in covariates.items():
        values = _given(name, conditions, f"the covariates {', '.join(covariates)}")
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


def _given(name: str, conditions: Batch | None, asked: str) -> Tensor:
    value = None if conditions is None else conditions.get(name)
    if not isinstance(value, Tensor):
        raise ConfigurationError(
            f"`conditions` must hold {name!r}, got {None if conditions is None else sorted(conditions)}: this model is "
            f"conditioned on {asked}. Take them from real data with RealFields(dataset, [{name!r}])."
        )
    return value
