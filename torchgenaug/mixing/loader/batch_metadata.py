"""TorchIO and MONAI metadata that accompanies the image tensors of a batch, and its selection for other rows.

`torchio.SubjectsLoader` makes of each image a dict of its own: ``{"data": (B, C, W, H, D), "affine": …, "path": […],
…}``. MONAI's loaders make a `MetaTensor` whose `meta` holds lists and tensors with an entry per row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug.samples.container_type import has_meta, tensor_like
from torchgenaug.seeding import Int64Array

DATA = "data"
"""Where a TorchIO batch keeps the tensor of an image."""

_OF_THE_FILE = ("path", "stem", "filename_or_obj")  # what a synthetic image does not have
_NO_OPERATIONS = "none"  # MONAI's TraceKeys.NONE: what collating writes for an image without a history


def is_image(value: object) -> bool:
    """Whether `value` is an image of a TorchIO batch."""
    return not isinstance(value, Tensor) and isinstance(value, Mapping) and DATA in value


def bare(tensor: Tensor) -> Tensor:
    """The same numbers as a plain tensor, for reading: a `MetaTensor` would look after its metadata in each step."""
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)


def select_metadata(old: Any, made: Tensor, rows: Int64Array | None, added: int) -> Any:
    """The tensor `made` as a value of the type of `old`, which was read off a batch.

    Args:
        old: an image of a TorchIO batch, a `monai.data.MetaTensor`, or any other tensor.
        made: the new tensor.
        rows: which rows of `old` its first ones are (None: all): they keep their metadata.
        added: how many rows follow that are not in `old`. They get the metadata of the first row of `old`, such as its
            affine, but no path and no history of transforms.
    """
    if is_image(old):
        return {key: made if key == DATA else _entry(key, entry, rows, added) for key, entry in old.items()}
    if type(old) is Tensor:
        return made
    value: Any = tensor_like(old, made)
    if has_meta(value) and has_meta(old):
        size = old.shape[0]
        value.is_batch = old.is_batch
        value.meta = _collated("", old.meta, size, rows, added) if old.is_batch else dict(old.meta)
        operations = old.applied_operations
        if old.is_batch and isinstance(operations, list) and len(operations) == size:
            kept = operations if rows is None else [operations[row] for row in rows]
            value.applied_operations = [*kept, *[_NO_OPERATIONS] * added]
    return value


def _collated(key: str, entry: Any, size: int, rows: Int64Array | None, added: int) -> Any:
    """Metadata of `size` rows after `torch.utils.data.default_collate`: what has not one value per row stays."""
    if isinstance(entry, Mapping):
        return {name: _collated(str(name), part, size, rows, added) for name, part in entry.items()}
    if isinstance(entry, list) and entry and all(isinstance(part, (Mapping, list, Tensor)) for part in entry):
        # Of lists, one per row, collating makes a list with the rows' first items, one with their second ones, …
        return [_collated(key, part, size, rows, added) for part in entry]
    has_rows = isinstance(entry, list) or (isinstance(entry, (Tensor, np.ndarray)) and entry.ndim > 0)
    return _entry(key, entry, rows, added) if has_rows and len(entry) == size else entry


def _entry(key: str, entry: Any, rows: Int64Array | None, added: int) -> Any:
    """An entry next to the tensor of an image (one per row of the batch) for the rows kept and the rows added."""
    if isinstance(entry, np.ndarray):
        return np.concatenate([entry if rows is None else entry[rows], np.repeat(entry[:1], added, axis=0)])
    if isinstance(entry, Tensor):
        kept = entry if rows is None else entry[torch.from_numpy(rows).to(entry.device)]
        return torch.cat([kept, entry[:1].expand(added, *entry.shape[1:])])
    if not isinstance(entry, list) or not entry:
        return entry
    filler = "" if key in _OF_THE_FILE else entry[0]
    return [*(entry if rows is None else [entry[row] for row in rows]), *[filler] * added]
