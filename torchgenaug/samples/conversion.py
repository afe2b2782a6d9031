r"""Converts a field of synthetic samples to what the real samples hold in its place, where nothing is lost by it.

| Real value | Synthetic field | What is done |
|---|---|---|
| another shape with the same axes longer than 1 | any | axes of size 1 are added or dropped: (1, H, W) and (H, W) |
| (\*spatial, channels) | (channels, \*spatial) | channels move last |
| one-hot (classes,) or (classes, \*spatial) | class label, label map | one-hot encoded |
| bool, any integer, any floating-point dtype | label, label map | cast, or an error where a value would change |
| floating-point dtype | floating-point dtype | cast |
| uint8 image | floating-point image | its value range is mapped to 0 … 255 and rounded, unless it lies there already |
| image of another integer dtype | floating-point image | rounded: such images are in units (Hounsfield) |
| NumPy array or scalar, Python number, PIL image | tensor | that type |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchgenaug.errors import FieldMismatchError
from torchgenaug.samples.container_type import tensor_like
from torchgenaug.samples.pil_images import channels_of, is_8_bit, is_picture, picture_like
from torchgenaug.samples.torchio_values import plain
from torchgenaug.types import FieldSpec

Step: TypeAlias = Callable[[Tensor], Tensor]
_GREY = 255


@dataclass(frozen=True)
class Conversion:
    """How the values of one field are converted.

    Args:
        steps: what is done to a tensor of several samples, in this order.
        rows: tensor of several samples → the value of each.
        changes: what changes, in words; "" where values stay what they are.
    """

    steps: tuple[Step, ...]
    rows: Callable[[Tensor], list[Any]]
    changes: str = ""

    def __call__(self, values: Tensor) -> list[Any]:
        """(batch, …) → one value per sample, of the real one's type."""
        for step in self.steps:
            values = step(values)
        return self.rows(values)


def find_conversion(name: str, like: Any, spec: FieldSpec, *, one_hot: bool = False) -> Conversion | str:
    """How a synthetic field of `spec` becomes a value like `like`, or what keeps it from that.

    Args:
        name: the field's name, for errors at run time.
        like: the value of a real sample; its numbers do not matter.
        spec: what the synthetic samples hold.
        one_hot: whether the first axis of `like` is one-hot over classes.
    """
    data = plain(like)
    if is_picture(data):
        return _to_picture(name, data, spec)
    if isinstance(data, (Tensor, np.ndarray)):
        return _to_array(name, data, spec, one_hot)
    if isinstance(data, (bool, int, float, np.number, np.bool_)):
        return _to_number(name, data, spec)
    return f"real is of type {type(data).__name__}, which cannot be made from a tensor"


def _to_array(name: str, like: Tensor | np.ndarray[Any, Any], spec: FieldSpec, one_hot: bool) -> Conversion | str:
    shape, dtype = tuple(like.shape), torch_dtype(like)
    problem = f"real {shape} {like.dtype if dtype is None else dtype}, synthetic {spec.shape} {spec.dtype}"
    if dtype is None:
        return problem
    steps: list[Step] = []
    changed = []
    if one_hot and shape != spec.shape and _drop_ones(shape[1:]) == _drop_ones(spec.shape) and _is_whole(spec.dtype):
        steps.append(_OneHot(name, shape))
        changed.append(f"one-hot {shape}")
        spec = FieldSpec(shape, torch.int64, kind="scalar", value_range=(0, 1))
    elif shape != spec.shape:
        if _drop_ones(shape) == _drop_ones(spec.shape):
            steps.append(_Reshape(shape))
        elif len(spec.shape) > 2 and shape == (*spec.shape[1:], spec.shape[0]):
            steps.append(_channels_last)
        else:
            return problem
        if len(shape) != 4 or shape != (*spec.shape, 1):  # as TorchIO holds 2D images: that is no news
            changed.append(f"shape {spec.shape} to {shape}")
    if dtype != spec.dtype:
        cast = _find_cast(name, spec, dtype)
        if isinstance(cast, str):
            return problem + cast
        steps.append(cast)
        changed.append(f"{_short(spec.dtype)} to {_short(dtype)}{cast.rule}")
    return Conversion(tuple(steps), _ArrayRows(like), ", ".join(changed))


def _to_number(name: str, like: Any, spec: FieldSpec) -> Conversion | str:
    whole = isinstance(like, (bool, int, np.integer, np.bool_))
    if any(size != 1 for size in spec.shape) or (whole and not _is_whole(spec.dtype)):
        return f"real is one {type(like).__name__}, synthetic {spec.shape} {spec.dtype}"
    steps: list[Step] = [_Reshape(())] if spec.shape else []
    if isinstance(like, (bool, np.bool_)) and spec.dtype != torch.bool:
        steps.append(Cast(name, torch.bool, checked=True))
    return Conversion(tuple(steps), _NumberRows(type(like)))


def _to_picture(name: str, like: Any, spec: FieldSpec) -> Conversion | str:
    problem = f"real is a PIL image of mode {like.mode!r}, synthetic {spec.shape} {spec.dtype}"
    channels = channels_of(like)
    steps: list[Step] = []
    if len(spec.shape) == 2 and channels == 1:
        steps.append(_Reshape((1, *spec.shape)))
    elif len(spec.shape) != 3 or spec.shape[0] != channels:
        return problem
    target = torch.uint8 if is_8_bit(like) else torch.float32
    rule = ""
    if spec.dtype != target:
        cast = _find_cast(name, spec, target)
        if isinstance(cast, str):
            return problem + cast
        steps.append(cast)
        rule = cast.rule
    return Conversion(tuple(steps), _PictureRows(like), f"tensors to PIL images of mode {like.mode!r}{rule}")


def _find_cast(name: str, spec: FieldSpec, dtype: torch.dtype) -> Cast | str:
    """The step that casts a field to `dtype`; a text, for the end of a message, where that would lose something."""
    if spec.dtype.is_complex or dtype.is_complex:
        return ""
    if _is_whole(spec.dtype):
        return Cast(name, dtype, checked=not _holds(dtype, spec.value_range))
    if dtype.is_floating_point:
        return Cast(name, dtype)
    if spec.kind == "label_map" or dtype == torch.bool:
        return Cast(name, dtype, checked=True) if spec.kind == "label_map" else ""
    if spec.kind != "intensity" or not spec.shape:
        return ""
    if dtype != torch.uint8:
        return Cast(name, dtype, checked=True, rounded=True, rule=", rounded")
    if spec.value_range is None:
        return ", whose value range is not stated: what its 0 and 255 are is unknown (return uint8)"
    low, high = spec.value_range
    if low >= 0 and 1 < high <= _GREY:
        return Cast(name, dtype, checked=True, rounded=True, rule=", rounded")
    scale = (low, _GREY / (high - low))
    return Cast(name, dtype, scale, checked=True, rounded=True, rule=f", [{low:g}, {high:g}] mapped to 0 … {_GREY}")


@dataclass(frozen=True)
class Cast:
    """To `dtype`, after ``(value - scale[0]) · scale[1]``; `checked`: an error where a value would change otherwise."""

    name: str
    dtype: torch.dtype
    scale: tuple[float, float] | None = None
    checked: bool = False
    rounded: bool = False
    rule: str = ""

    def __call__(self, values: Tensor) -> Tensor:
        """The values in `dtype`."""
        if self.scale is not None:
            values = (values.double() - self.scale[0]) * self.scale[1]
        if self.rounded:
            values = values.round()
        cast = values.to(self.dtype)
        if self.checked and not torch.equal(cast.to(torch.float64), values.to(torch.float64)):
            changed = values[cast.to(torch.float64) != values.to(torch.float64)]
            raise FieldMismatchError(
                f"Field {self.name!r} must hold values that {_short(self.dtype)}, the real samples' dtype, can hold, "
                f"got {changed.flatten()[0].item():g}. It would become another value. Map the values in "
                "`synthetic_transform`, or convert the real samples with `real_transform`."
            )
        return cast


@dataclass(frozen=True)
class _Reshape:
    shape: tuple[int, ...]

    def __call__(self, values: Tensor) -> Tensor:
        return values.reshape(len(values), *self.shape)


@dataclass(frozen=True)
class _OneHot:
    name: str
    shape: tuple[int, ...]

    def __call__(self, values: Tensor) -> Tensor:
        labels = values.reshape(len(values), *self.shape[1:]).long()
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.shape[0]:
            raise FieldMismatchError(
                f"Field {self.name!r} must hold classes 0 to {self.shape[0] - 1}, as many as the real samples' one-hot "
                f"vectors have, got {int(labels.min())} to {int(labels.max())}. Generate only these classes, or map "
                "them in `synthetic_transform`."
            )
        return torch.nn.functional.one_hot(labels, self.shape[0]).movedim(-1, 1)


def _channels_last(values: Tensor) -> Tensor:
    return values.movedim(1, -1)


class _ArrayRows:
    def __init__(self, like: Tensor | np.ndarray[Any, Any]) -> None:
        self._like = like

    def __call__(self, values: Tensor) -> list[Any]:
        like = self._like
        if type(like) is Tensor:
            return list(values.unbind(0))
        if isinstance(like, Tensor):
            return [tensor_like(like, part) for part in values.unbind(0)]
        array = values.numpy()
        return list(array if array.dtype == like.dtype else array.astype(like.dtype))


@dataclass(frozen=True)
class _NumberRows:
    kind: Callable[[Any], Any]

    def __call__(self, values: Tensor) -> list[Any]:
        rows: list[Any] = values.tolist()
        return rows if not rows or type(rows[0]) is self.kind else [self.kind(row) for row in rows]


@dataclass(frozen=True)
class _PictureRows:
    like: Any

    def __call__(self, values: Tensor) -> list[Any]:
        return [picture_like(self.like, part) for part in values.unbind(0)]


def torch_dtype(like: Tensor | np.ndarray[Any, Any]) -> torch.dtype | None:
    """The torch dtype of a tensor or an array, of any byte order; None where torch has none."""
    if isinstance(like, Tensor):
        return like.dtype
    try:
        return torch.from_numpy(np.empty(0, like.dtype.newbyteorder("="))).dtype
    except TypeError:
        return None


def _holds(dtype: torch.dtype, limits: tuple[float, float] | None) -> bool:
    """Whether `dtype` represents every whole number within the limits."""
    if limits is None:
        return False
    low, high = limits
    if dtype == torch.bool:
        return low >= 0 and high <= 1
    if dtype.is_floating_point:
        exact = 2 / torch.finfo(dtype).eps
        return -exact <= low and high <= exact
    return torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max


def _is_whole(dtype: torch.dtype) -> bool:
    return not dtype.is_floating_point and not dtype.is_complex


def _drop_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
