"""Images and masks that a model is conditioned on, checked; for synthesizers of several kinds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.outputs import OVERSHOOT
from torchgenaug.types import Batch, FieldSpec

_FROM_REAL_DATA = "Take them from real data with RealFields(dataset, [{}])."
_OTHER_SOURCES = (
    "Models that fill regions or modalities take images with marks behind their channels: PlacedLesions or "
    "FillMissing; those that change the class take Counterfactuals."
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


def given(name: str, conditions: Batch | None, what: str, remedy: str | None = None) -> Tensor:
    """The condition `name`, any tensor.

    Args:
        name: of the condition.
        conditions: what `synthesize` was given.
        what: that the model is conditioned on, for the message.
        remedy: where to get it from; None: from real data.

    Raises:
        ConfigurationError: none.
    """
    value = None if conditions is None else conditions.get(name)
    if not isinstance(value, Tensor):
        raise ConfigurationError(
            f"`conditions` must hold {name!r}, got {None if conditions is None else sorted(conditions)}: this model is "
            f"conditioned on {what}. {remedy or _FROM_REAL_DATA.format(repr(name))}"
        )
    return value


def given_image(name: str, conditions: Batch | None, count: int, spec: FieldSpec) -> Tensor:
    """An image, checked: (count, *spec.shape), floating point, in its range (with a little overshoot).

    Raises:
        ConfigurationError: none, of another shape or dtype, or with NaN, Inf or foreign intensities.
    """
    image = given(name, conditions, f"images {spec}", f"{_FROM_REAL_DATA.format(repr(name))} {_OTHER_SOURCES}")
    if not image.is_floating_point() or tuple(image.shape) != (count, *spec.shape):
        channels = image.ndim == len(spec.shape) + 1 and image.shape[2:] == spec.shape[1:] and len(image) == count
        raise ConfigurationError(
            f"`conditions[{name!r}]` must be a floating-point tensor of shape {(count, *spec.shape)}, got "
            f"{image.dtype} of shape {tuple(image.shape)}. "
            f"{_OTHER_SOURCES if channels and image.is_floating_point() else 'Resize or convert the images.'}"
        )
    low, high = spec.value_range or (-math.inf, math.inf)
    margin = OVERSHOOT * (high - low)
    least, most = (extreme.item() for extreme in torch.aminmax(image))
    if not (low - margin <= least and most <= high + margin):
        raise ConfigurationError(
            f"`conditions[{name!r}]` must hold intensities in [{low:g}, {high:g}], got [{least:g}, {most:g}]. The "
            "model never saw such images. Rescale them, or state their range where the model is made."
        )
    return image


def given_mask(conditions: Batch | None, count: int, size: tuple[int, ...], classes: int) -> Tensor:
    """The condition ``mask``, checked: (count, 1, *size), integers in [0, classes).

    Raises:
        ConfigurationError: none, of another shape or dtype, or with classes that the model does not know.
    """
    mask = given("mask", conditions, f"masks of {classes} classes")
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


def one_hot(mask: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class masks as channels: (batch, 1, *spatial) integers → (batch, `classes`, *spatial) of 0 and 1."""
    mask = mask.to(torch.int64)
    return torch.zeros((mask.shape[0], classes, *mask.shape[2:]), dtype=dtype, device=mask.device).scatter_(1, mask, 1)
