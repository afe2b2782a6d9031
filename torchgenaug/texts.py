"""Texts of messages: values described in a few words, long lists cut."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

_SHOWN = 8


def describe_value(value: object) -> str:
    """Dtype and shape of a tensor, length of a list or tuple, else the type: ``"torch.float32 of shape (1, 2)"``."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


def first_few(values: Sequence[int]) -> str:
    """The first eight of a list, and how many there are: ``"[0, 1, 2, 3, 4, 5, 6, 7, … 20 in all]"``."""
    if len(values) <= _SHOWN:
        return str(list(values))
    return f"[{', '.join(map(str, values[:_SHOWN]))}, … {len(values)} in all]"
