"""What stands in a synthetic sample for things that only real ones have, such as the path of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from torch import Tensor

from torchgenaug.samples.container_type import mapping_like

_RECORDS = ("foreground_start_coord", "foreground_end_coord", "patch_index")
"""What MONAI's transforms write into a sample about what they did to it."""


_LARGEST_RECORD = 64  # numbers: an affine has 16; more may be an image


class NoNeutralValueError(Exception):
    """A value that must not be invented: a number or an array, which training might use."""


def neutral(value: Any, name: str = "", *, inside: bool = False) -> Any:
    """``""`` for texts, an empty path, None; dicts and lists of these.

    Inside a dict (a sample's metadata) numbers become -1 or NaN, and arrays of up to 64 numbers zeros.

    Args:
        value: what the real sample has.
        name: the field's name: what MONAI's transforms record of themselves gets zeros.
        inside: whether it lies inside another value.

    Raises:
        NoNeutralValueError: a number or an array that is a field of the sample.
    """
    if value is None:
        return None
    if isinstance(value, (str, bytes)):
        return type(value)()
    if isinstance(value, PurePath):
        return type(value)()
    if isinstance(value, Mapping):
        return mapping_like(value, {key: neutral(part, str(key), inside=True) for key, part in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(neutral(part, inside=inside) for part in value))
    is_record = inside or name in _RECORDS
    if isinstance(value, (tuple, list)):
        return type(value)(neutral(part, inside=is_record) for part in value)
    if is_record and isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) <= _LARGEST_RECORD:
        return value.clone().zero_() if isinstance(value, Tensor) else np.zeros_like(value)
    if is_record and isinstance(value, (bool, int, float, np.generic)):
        is_whole = isinstance(value, (bool, int, np.integer, np.bool_))
        return type(value)(not isinstance(value, (bool, np.bool_)) and -1 if is_whole else float("nan"))
    raise NoNeutralValueError
