"""`ConstantScreen`: no image may be one value throughout."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from torchgenaug.contracts import Screen
from torchgenaug.errors import BadSampleError
from torchgenaug.screens.fields import chosen_images
from torchgenaug.texts import first_few
from torchgenaug.types import Batch, FieldSpec

_PROBES = 8  # places looked at first: an image that differs among them is not constant
_ROUNDING = 1e-6  # of the largest magnitude: what rounding makes of a constant
MIN_ELEMENTS = 16
"""Fields of fewer numbers are not judged."""


class ConstantScreen:
    """Refuses images whose values are all the same: a model that has died, or was clipped away.

    A sample with NaN in a layer before the last may come out black, and a diverged one white. Costs next to nothing:
    only images that agree at a few places are looked at whole. A pure function of the batch; picklable.

    Args:
        fields: which fields to judge; None for all floating-point fields with spatial axes.

    Example:
        >>> screen = ConstantScreen()
        >>> screen([0], [7], {"image": torch.rand(1, 1, 8, 8)})
        >>> screen([0], [7], {"image": torch.zeros(1, 1, 8, 8)})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        torchgenaug.errors.BadSampleError: Field 'image' must not be constant, ...
    """

    def __init__(self, fields: Sequence[str] | None = None) -> None:
        self.fields = None if fields is None else tuple(fields)

    @property
    def fingerprint(self) -> str:
        """sha256 over the settings."""
        return hashlib.sha256(f"constant\n{self.fields}".encode()).hexdigest()

    def __call__(self, ids: Sequence[int], seeds: Sequence[int], batch: Batch) -> None:
        """Raises `BadSampleError` if a sample of `batch` is constant in one of the fields."""
        for name in chosen_images(batch, self.fields):
            rows = constant_rows(batch[name])
            if len(rows):
                bad_ids, bad_seeds = [ids[row] for row in rows], [seeds[row] for row in rows]
                value = batch[name][rows[0]].flatten()[0].item()
                raise BadSampleError(
                    f"Field {name!r} must not be constant, got one value ({value:g}) throughout in "
                    f"{len(rows)} of {len(ids)} samples: ids {first_few(bad_ids)} "
                    f"(seeds {first_few(bad_seeds)}). "
                    "Nothing of this batch was used. Check the weights and the number of steps; if blank images are "
                    "right, say so: SyntheticSequence(..., screens=()).",
                    ids=bad_ids,
                    seeds=bad_seeds,
                )

    def __repr__(self) -> str:
        return "ConstantScreen()" if self.fields is None else f"ConstantScreen({list(self.fields)})"


def default_screens(fields: Mapping[str, FieldSpec]) -> tuple[Screen, ...]:
    """What a sequence screens by default: constant intensities, where a synthesizer makes images.

    Args:
        fields: of the synthesizer.
    """
    images = [
        name
        for name, spec in fields.items()
        if spec.kind == "intensity"
        and len(spec.shape) > 1
        and math.prod(spec.shape) >= MIN_ELEMENTS
        and spec.dtype is not torch.bool  # of black and white, a blank image is none too rare
    ]
    return (ConstantScreen(images),) if images else ()


def constant_rows(images: Tensor) -> list[int]:
    """The rows of `images` (batch, *shape) that hold one value only, but for rounding."""
    flat = images.flatten(1)
    places = flat[:, :: max(1, flat.shape[1] // _PROBES)]
    suspected = _is_constant(places)
    if not suspected.any():
        return []
    suspects = torch.nonzero(suspected)[:, 0]
    rows: list[int] = suspects[_is_constant(flat[suspects])].tolist()
    return rows


def _is_constant(rows: Tensor) -> Tensor:
    if rows.dtype == torch.bool or rows.dtype in (torch.uint16, torch.uint32, torch.uint64):
        rows = rows.to(torch.int64)  # torch cannot order these
    low, high = torch.aminmax(rows, dim=1)
    if not rows.dtype.is_floating_point:
        return low == high
    # max(high, -low) is the largest magnitude. A difference that overflows compares as not constant.
    return high - low <= _ROUNDING * torch.maximum(high, -low)
