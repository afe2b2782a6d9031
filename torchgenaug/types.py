"""What a sample is: a flat dict of fields, each described by a `FieldSpec`."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError

Sample: TypeAlias = dict[str, Any]
"""One sample: field name → value. Images are tensors of shape (channels, *spatial)."""

Batch: TypeAlias = dict[str, Tensor]
"""Many samples: field name → tensor with the batch axis first."""

FieldKind: TypeAlias = Literal["intensity", "label_map", "scalar"]


@dataclass(frozen=True, slots=True, init=False)
class FieldSpec:
    """What one field of every sample holds.

    Args:
        shape: shape without the batch axis: (channels, *spatial) for images, ``()`` for a class label.
        dtype: torch dtype of the field.
        kind: ``"intensity"`` (an image: interpolated linearly by spatial transforms), ``"label_map"`` (a mask of
            classes: nearest neighbour, integer dtype) or ``"scalar"`` (class label, age, …: spatial transforms leave
            it alone).
        value_range: smallest and largest value that a sample may hold, both included; None where there is no limit.

    Raises:
        ConfigurationError: unknown kind, negative size, empty range, a label map that is not of an integer dtype, or an
            argument of another type.

    Example:
        >>> FieldSpec((1, 64, 64), value_range=(0.0, 1.0)).shape
        (1, 64, 64)
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: FieldKind
    value_range: tuple[float, float] | None

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        *,
        kind: FieldKind = "intensity",
        value_range: tuple[float, float] | None = None,
    ) -> None:
        try:
            shape = tuple(operator.index(size) for size in shape)
        except TypeError as error:
            raise ConfigurationError(
                f"`shape` must be a tuple of integers without the batch axis, got {shape!r}. For example (1, 64, 64) "
                "for an image, (8,) for a vector, () for a single number."
            ) from error
        if not isinstance(dtype, torch.dtype):
            raise ConfigurationError(f"`dtype` must be a torch dtype, got {dtype!r}. For example torch.float32.")
        if any(size < 1 for size in shape):
            raise ConfigurationError(f"`shape` must hold positive sizes, got {shape}.")
        if kind not in get_args(FieldKind):
            raise ConfigurationError(f"`kind` must be one of {get_args(FieldKind)}, got {kind!r}.")
        if kind == "label_map" and (dtype.is_floating_point or dtype.is_complex):
            raise ConfigurationError(
                f"`dtype` of a label map must be an integer dtype, got {dtype}. "
                "Use dtype=torch.int64, or kind='intensity' for soft labels."
            )
        if value_range is not None:
            try:
                low, high = (float(limit) for limit in value_range)
            except (TypeError, ValueError):
                low = high = math.nan
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigurationError(f"`value_range` must be (low, high), finite, low < high, got {value_range}.")
            value_range = (low, high)
        for name, value in (("shape", shape), ("dtype", dtype), ("kind", kind), ("value_range", value_range)):
            object.__setattr__(self, name, value)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description; `from_json` reads it back."""
        return {
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "kind": self.kind,
            "value_range": None if self.value_range is None else list(self.value_range),
        }

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> FieldSpec:
        """The spec that `to_json` described."""
        dtype = getattr(torch, str(description["dtype"]), None)
        if not isinstance(dtype, torch.dtype):
            raise ConfigurationError(f"`dtype` must name a torch dtype, got {description['dtype']!r}.")
        limits = description["value_range"]
        return cls(
            tuple(description["shape"]),
            dtype,
            kind=description["kind"],
            value_range=None if limits is None else (limits[0], limits[1]),
        )

    def __str__(self) -> str:
        limits = "" if self.value_range is None else f" in [{self.value_range[0]:g}, {self.value_range[1]:g}]"
        return f"{self.kind} {self.shape} {str(self.dtype).removeprefix('torch.')}{limits}"

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.shape, self.dtype, self.kind, self.value_range)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(("shape", "dtype", "kind", "value_range"), state, strict=True):
            object.__setattr__(self, name, value)


def finite_range(limits: object) -> tuple[float, float] | None:
    """(low, high) as floats; None unless they are two finite numbers, low < high."""
    try:
        low, high = (float(limit) for limit in limits)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None
