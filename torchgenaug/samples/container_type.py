"""Rebuilds a value in another value's container type; falls back to a plain dict or Tensor where that type refuses."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

_KEPT_STRINGS = ("space", "original_channel_dim")  # MONAI's conventions of axes, the same for every image of a set


def mapping_like(like: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """`values` as an `OrderedDict`, `defaultdict`, `UserDict`, … if `like` is one; else as a dict."""
    kind: Any = type(like)
    if kind is dict:
        return dict(values)
    if isinstance(like, dict):  # a copy of a dict holds its own items, and keeps what else the type has
        rebuilt = copy.copy(like)
        rebuilt.clear()
        rebuilt.update(values)
        return rebuilt
    try:
        other = kind(values)
    except Exception:  # a constructor of another signature: whatever it raises says only that
        return dict(values)
    return other if isinstance(other, kind) and list(other) == list(values) else dict(values)


def tensor_like(like: Tensor, values: Tensor) -> Tensor:
    """`values` as a `monai.data.MetaTensor`, … if `like` is one, with its affine and geometry but no file name."""
    kind: Any = type(like)
    if kind is Tensor or isinstance(like, torch.nn.Parameter):
        return values
    try:
        rebuilt = kind(values)
    except Exception:  # as above
        return values
    if type(rebuilt) is not kind or rebuilt.shape != values.shape or rebuilt.dtype != values.dtype:
        return values
    if has_meta(like) and has_meta(rebuilt):
        rebuilt.meta = anonymous_meta(like.meta)  # type: ignore[attr-defined]
        rebuilt.applied_operations = []
    return rebuilt  # type: ignore[no-any-return]


def has_meta(value: object) -> bool:
    """Whether `value` is a `monai.data.MetaTensor`, without importing MONAI."""
    return any(base.__name__ == "MetaTensor" and base.__module__.startswith("monai.") for base in type(value).__mro__)


def anonymous_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """MONAI metadata for an image that has no file: affine and sizes stay, texts (file name, patient) become ``""``.

    The keys stay, too: MONAI's collate function keeps only those that all images of a batch have.
    """
    return {key: value if key in _KEPT_STRINGS else _anonymous(value) for key, value in meta.items()}


def _anonymous(value: Any) -> Any:
    if isinstance(value, (str, PurePath)):
        return ""
    if isinstance(value, Tensor):
        return value.clone()
    return value.copy() if isinstance(value, (np.ndarray, dict)) else value
