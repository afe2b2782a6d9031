"""`ValueConverter`: converts single values of a field, such as those that a transform returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug.errors import FieldMismatchError
from torchgenaug.samples.conversion import Cast, Conversion, Step, find_conversion, torch_dtype
from torchgenaug.samples.kinds import infer_kind
from torchgenaug.samples.pil_images import is_picture
from torchgenaug.samples.torchio_values import plain
from torchgenaug.types import FieldSpec


class ValueConverter:
    """Converts single values of one field, such as those that a transform returns, to the type of `like`.

    Args:
        name: the field's name.
        like: the value of a real sample.
        one_hot: whether the first axis of `like` is one-hot over classes.
    """

    def __init__(self, name: str, like: Any, *, one_hot: bool = False) -> None:
        self.name, self.like, self.one_hot = name, like, one_hot
        self._found: dict[Any, Conversion | str | None] = {}

    def find(self, value: Any) -> Conversion | str | None:
        """How `value` is converted: None where it fits as it is, a text where it cannot be."""
        data = plain(value)
        key = (type(data), getattr(data, "shape", None), getattr(data, "dtype", None))
        if key not in self._found:
            self._found[key] = self._search(data)
        return self._found[key]

    def __call__(self, value: Any) -> Any:
        """The value as the real samples have it.

        Raises:
            FieldMismatchError: that would lose something.
        """
        found = self.find(value)
        if isinstance(found, str):
            raise FieldMismatchError(f"Synthetic samples must fit the real ones. {self.name!r}: {found}.")
        return value if found is None else found(_as_tensor(plain(value))[None])[0]

    def _search(self, data: Any) -> Conversion | str | None:
        like = plain(self.like)
        if _describe(data) == _describe(like):
            return None
        if not _is_numeric(like):
            return None if _same_family(data, like) else f"real is {_describe(like)}, synthetic {_describe(data)}"
        try:
            tensor = _as_tensor(data)
        except (TypeError, ValueError, RuntimeError):
            return f"real {_describe(like)}, synthetic {_describe(data)}"
        kind = infer_kind(self.name, tensor)
        first: tuple[Step, ...] = ()
        if kind == "label_map" and tensor.is_floating_point():  # whole numbers in floating point, as MONAI reads masks
            if isinstance(like, (Tensor, np.ndarray)) and torch_dtype(like) == tensor.dtype:
                kind = "intensity"
            else:
                first, tensor = (Cast(self.name, torch.int64, checked=True),), tensor.to(torch.int64)
        found = find_conversion(self.name, like, FieldSpec(tensor.shape, tensor.dtype, kind=kind), one_hot=self.one_hot)
        return found if isinstance(found, str) else replace(found, steps=(*first, *found.steps))


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.as_subclass(Tensor)
    if is_picture(value):
        array = np.asarray(value)
        return torch.from_numpy(np.moveaxis(array, -1, 0).copy() if array.ndim == 3 else array[None].copy())
    array = np.asarray(value)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True))


def _describe(value: Any) -> str:
    if is_picture(value):
        return f"PIL image of mode {value.mode!r}"
    if isinstance(value, (Tensor, np.ndarray)):
        kind = "" if type(value) in (Tensor, np.ndarray) else f"{type(value).__name__} "
        return f"{kind}{tuple(value.shape)} {value.dtype}"
    return type(value).__name__


def _is_numeric(value: Any) -> bool:
    return is_picture(value) or isinstance(value, (Tensor, np.ndarray, bool, int, float, np.number, np.bool_))


def _same_family(value: Any, like: Any) -> bool:
    """Whether `value` may stand where `like`, which is no number, stands: texts, paths, dicts, lists, None."""
    if like is None or value is None:
        return True
    families = ((str, PurePath), (Mapping,), (list, tuple))
    return isinstance(value, type(like)) or any(isinstance(value, each) and isinstance(like, each) for each in families)
