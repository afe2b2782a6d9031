"""A transform of conditions, such as TorchIO's elastic deformation of real masks, which gives new masks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.seeded_transform import SeededTransform
from torchgenaug.types import FieldSpec


class ConditionTransform:
    """Applies a transform to fields taken from real samples; the same id gives the same result.

    Args:
        transform: a TorchIO transform, or a function of a dict of tensors; all fields of a sample move together.
        fields: the fields' specs.
        seed: base seed; the random numbers of sample k depend on (seed, k) alone.
    """

    def __init__(self, transform: Callable[[Any], Any], fields: Mapping[str, FieldSpec], seed: int) -> None:
        self.seed = seed
        hollow = {name: torch.zeros(spec.shape, dtype=spec.dtype) for name, spec in fields.items()}
        kinds = {name: spec.kind for name, spec in fields.items()}
        self._apply = SeededTransform(transform, SampleLayout.of(hollow), kinds)
        self.description = described(transform)

    def __call__(self, rows: Sequence[Mapping[str, Tensor]], ids: Sequence[int]) -> list[dict[str, Tensor]]:
        """The rows of samples `ids`, transformed."""
        seeds = seeding.derive(self.seed, seeding.TRANSFORM, np.asarray(ids, dtype=np.int64))
        # Copies: a transform may work in place, and the rows may be the data set's own.
        return self._apply([{name: value.clone() for name, value in row.items()} for row in rows], seeds)


def described(value: Any, above: tuple[int, ...] = ()) -> str:
    """What decides a transform, as text: classes, settings, code; ``repr`` of TorchIO's transforms says no settings.

    Code is that of Python functions, with their defaults and what they close over: two lambdas are two transforms.
    """
    if id(value) in above:
        return f"itself, {len(above) - above.index(id(value))} levels up"
    inside = partial(described, above=(*above, id(value)))
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {value.shape} {content}"
    if isinstance(value, bool | int | float | str | bytes | type(None)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{inside(key)}: {inside(part)}" for key, part in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(inside, value))) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inside, value)) + "]"
    if isinstance(value, CodeType):
        # Without lines and file names, which decide nothing.
        return inside([value.co_code, value.co_consts, value.co_names, value.co_varnames, value.co_freevars])
    if isinstance(value, FunctionType):
        closed = [cell.cell_contents for cell in value.__closure__ or ()]
        return _name(value) + inside([value.__code__, value.__defaults__, value.__kwdefaults__, closed])
    if isinstance(value, MethodType):
        return inside([value.__self__, value.__func__])
    if isinstance(value, partial):
        return "partial" + inside([value.func, value.args, value.keywords])
    if hasattr(value, "__qualname__"):
        return _name(value)
    settings = getattr(value, "__dict__", None)
    if settings is None:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return _name(type(value)) + inside(settings)


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
