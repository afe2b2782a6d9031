"""A sample without its voxels: what a layout keeps of the real sample that it was read off."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchgenaug.samples.container_type import mapping_like, tensor_like
from torchgenaug.samples.pil_images import hollow_picture, is_picture
from torchgenaug.samples.torchio_values import is_image, is_subject


def hollow(value: Any) -> Any:
    """The sample without its voxels: tensors and arrays keep shape and dtype, but share a single element."""
    if isinstance(value, Tensor):
        return tensor_like(value, torch.zeros((), dtype=value.dtype).expand(value.shape))
    if isinstance(value, np.ndarray):
        return value[:0] if value.dtype.hasobject else np.broadcast_to(np.zeros((), value.dtype), value.shape)
    if is_subject(value):
        return type(value)({name: hollow(part) for name, part in value.items()})
    if is_image(value):
        read = value if getattr(value, "_loaded", True) else copy.deepcopy(value)  # loading would fill the user's image
        return type(value)(tensor=hollow(read.data), affine=read.affine)
    if isinstance(value, Mapping):
        return mapping_like(value, {name: hollow(part) for name, part in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(hollow, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(hollow, value))
    if is_picture(value):
        return hollow_picture(value)
    return value


class _ArrayShape(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any


def without_arrays(template: Any) -> Any:
    """A hollow sample that pickles small: numpy writes out what an array shares. `with_arrays` undoes it."""
    return _mapped(template, lambda part: _ArrayShape(part.shape, part.dtype) if isinstance(part, np.ndarray) else part)


def with_arrays(template: Any) -> Any:
    """The hollow sample that `without_arrays` was given."""
    return _mapped(template, lambda part: hollow(np.empty(part.shape, part.dtype)) if _is_shape(part) else part)


def _is_shape(part: Any) -> bool:
    return isinstance(part, _ArrayShape)


def _mapped(template: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(template, Mapping) and not is_subject(template):
        return mapping_like(template, {name: change(part) for name, part in template.items()})
    if isinstance(template, (tuple, list)) and not _is_shape(template):
        parts = [change(part) for part in template]
        return type(template)(*parts) if hasattr(template, "_fields") else type(template)(parts)
    return change(template)
