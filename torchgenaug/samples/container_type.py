"""Values in the type of others, where a type can simply be made from what it holds; plain ones where it cannot."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def mapping_like(like: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """`values` as an `OrderedDict`, `defaultdict`, `UserDict`, … if `like` is one; else as a dict."""
    kind: Any = type(like)
    if kind is dict:
        return dict(values)
    if isinstance(like, dict):  # a copy of a dict holds its own items, and keeps what else the type has
        made = copy.copy(like)
        made.clear()
        made.update(values)
        return made
    try:
        other = kind(values)
    except Exception:  # a constructor of another signature: whatever it raises says only that
        return dict(values)
    return other if isinstance(other, kind) and list(other) == list(values) else dict(values)


def tensor_like(like: Tensor, values: Tensor) -> Tensor:
    """`values` as a `monai.data.MetaTensor`, … if `like` is one, with what else such a tensor holds as by default."""
    kind: Any = type(like)
    if kind is Tensor or isinstance(like, torch.nn.Parameter):
        return values
    try:
        made = kind(values)
    except Exception:  # as above
        return values
    return made if type(made) is kind and made.shape == values.shape and made.dtype == values.dtype else values
