"""How one field is stored in a shard: the stored dtype, and the conversion to and from the field's own dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.types import FieldSpec

STORAGE_DTYPES = (
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
)
_MOST_AXES = 31
"""HDF5 knows 32, and one is that of the samples."""
INTENSITY_DTYPES = ("float32", "float16", "uint8", "uint16")
"""What ``dtype=`` of `render_shards` accepts."""

# HDF5 has no such types that every reader knows; the wider ones hold each of their values exactly.
_WIDENED = {torch.bool: "uint8", torch.bfloat16: "float32"}


@dataclass(frozen=True, slots=True)
class StoredField:
    """A field and its form on disk: ``value = stored * scale + offset``.

    Attributes:
        spec: what the reader hands out.
        dtype: numpy name of the stored dtype (little-endian on disk).
        scale: factor of the formula above; 1 unless quantised.
        offset: summand of the formula above; 0 unless quantised.
        max_error: largest |value read - value rendered|; 0 where storage is exact.
    """

    spec: FieldSpec
    dtype: str
    scale: float = 1.0
    offset: float = 0.0
    max_error: float = 0.0

    @classmethod
    def plan(cls, name: str, spec: FieldSpec, dtype: str | None = None) -> StoredField:
        """How to store a field, given what the user asks of intensity fields.

        Args:
            name: for the message.
            spec: the field.
            dtype: one of `INTENSITY_DTYPES` for floating-point intensity fields, None to keep each field's own.

        Raises:
            ConfigurationError: a lossy dtype for a field without value range, a range too wide for float16, or a field
                of a dtype that HDF5 cannot hold.
        """
        own = _WIDENED.get(spec.dtype, str(spec.dtype).removeprefix("torch."))
        if own not in STORAGE_DTYPES:
            raise ConfigurationError(
                f"Field {name!r} must have a real dtype that HDF5 holds, got {spec.dtype}. "
                f"Let the synthesizer return one of {', '.join(STORAGE_DTYPES)}, bool or bfloat16."
            )
        if dtype is None or dtype == own or spec.kind != "intensity" or not spec.dtype.is_floating_point:
            return cls(spec, own)
        if np.can_cast(own, dtype, casting="safe"):
            return cls(spec, dtype)
        if spec.value_range is None:
            raise ConfigurationError(
                f"`dtype` must be None for field {name!r}, which has no value range, got {dtype!r}: the error of a "
                "lossy storage could not be stated. Give the synthesizer a `value_range`, or leave dtype=None."
            )
        if dtype.startswith("uint"):
            return _quantised(spec, dtype)
        largest = max(map(abs, spec.value_range))
        if largest > float(np.finfo(dtype).max):
            raise ConfigurationError(
                f"`dtype` must hold the value range {spec.value_range} of field {name!r}, got {dtype!r} "
                f"(largest value {float(np.finfo(dtype).max):g}). Use dtype='uint16' or 'float32'."
            )
        # Half a unit in the last place of the largest value; halfway cases double for the cast back.
        spacing = float(np.spacing(np.array(largest, dtype)))
        return cls(spec, dtype, max_error=spacing)

    @property
    def row_bytes(self) -> int:
        """Stored bytes of one sample."""
        return math.prod(self.spec.shape) * np.dtype(self.dtype).itemsize

    @property
    def exact(self) -> bool:
        """Whether the stored array already is the field: same dtype, nothing to compute."""
        return str(self.spec.dtype).removeprefix("torch.") == self.dtype

    @property
    def quantised(self) -> bool:
        """Whether scale and offset apply."""
        return self.spec.dtype.is_floating_point and self.dtype.startswith("uint")

    def encode(self, values: Tensor) -> npt.NDArray[Any]:
        """(batch, *shape) of the field's dtype, on the CPU → C-contiguous array of the stored dtype."""
        if self.quantised:
            levels = ((values.double() - self.offset) / self.scale).round_().clamp_(0, np.iinfo(self.dtype).max)
            return levels.numpy().astype(self.dtype)
        if not self.exact:
            values = values.to(getattr(torch, self.dtype))
        return np.ascontiguousarray(values.numpy())

    def decode(self, stored: npt.NDArray[Any]) -> Tensor:
        """Array of the stored dtype → tensor of the field's dtype, sharing memory where storage is exact."""
        if self.exact:
            return torch.from_numpy(stored)
        values = torch.empty(stored.shape, dtype=self.spec.dtype)
        self.decode_into(stored, values)
        return values

    def decode_into(self, stored: npt.NDArray[Any], out: Tensor) -> None:
        """`decode`, into a tensor that is there; it may be on another device."""
        values = torch.from_numpy(stored)
        if not self.quantised:
            out.copy_(values)
        elif self.spec.dtype == _compute_dtype(self.spec) and out.device.type == "cpu":
            out.copy_(values).mul_(self.scale).add_(self.offset)
        else:
            out.copy_(values.to(_compute_dtype(self.spec)).mul_(self.scale).add_(self.offset))

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description; `from_json` reads it back."""
        stored = {"dtype": self.dtype, "scale": self.scale, "offset": self.offset, "max_error": self.max_error}
        return {**self.spec.to_json(), "stored": stored}

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> StoredField:
        """The field that `to_json` described.

        Raises:
            ValueError: keys, types or values that `to_json` never writes (`ConfigurationError` is one, too).
        """
        keys, stored_keys = (
            {"shape", "dtype", "kind", "value_range", "stored"},
            {"dtype", "scale", "offset", "max_error"},
        )
        if set(description) != keys or set(description["stored"]) != stored_keys:
            raise ValueError(f"a field must have the keys {sorted(keys)} and, in `stored`, {sorted(stored_keys)}")
        stored = description["stored"]
        numbers = [stored[key] for key in ("scale", "offset", "max_error")]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"scale, offset and max_error must be finite numbers, got {numbers}")
        if stored["dtype"] not in STORAGE_DTYPES:
            raise ValueError(f"stored dtype must be one of {STORAGE_DTYPES}, got {stored['dtype']!r}")
        if not isinstance(description["shape"], list) or len(description["shape"]) > _MOST_AXES:
            raise ValueError(f"shape must be a list of at most {_MOST_AXES} sizes")
        if not all(type(size) is int and 0 < size < 1 << 32 for size in description["shape"]):
            raise ValueError(f"shape must hold positive integers, got {description['shape']!r}")
        limits = description["value_range"]
        if limits is not None and not (isinstance(limits, list) and len(limits) == 2):
            raise ValueError(f"value_range must be null or two numbers, got {limits!r}")
        return cls(FieldSpec.from_json(description), stored["dtype"], *map(float, numbers))


def _compute_dtype(spec: FieldSpec) -> torch.dtype:
    return torch.float64 if spec.dtype == torch.float64 else torch.float32


def _quantised(spec: FieldSpec, dtype: str) -> StoredField:
    """Uniform quantisation of the value range, with scale and offset such that no decoded value leaves the range."""
    low, high = spec.value_range or (0.0, 1.0)
    real = np.float64 if spec.dtype == torch.float64 else np.float32
    levels = real(np.iinfo(dtype).max)
    offset = real(low)
    if float(offset) < low:
        offset = np.nextafter(offset, real(np.inf))
    scale = real((high - float(offset)) / float(levels))
    while float(levels * scale + offset) > high:
        scale = np.nextafter(scale, real(0))
    top = float(levels * scale + offset)
    largest = max(abs(low), abs(high))
    rounding = 4 * float(np.finfo(real).eps) * largest
    if spec.dtype in (torch.float16, torch.bfloat16):
        rounding += torch.finfo(spec.dtype).eps * largest
    error = 0.5 * float(scale) + (high - top) + (float(offset) - low) + rounding
    return StoredField(spec, dtype, float(scale), float(offset), error)
