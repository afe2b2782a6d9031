"""A transform of conditions, such as TorchIO's elastic deformation of real masks: new ones for free."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.samples import SampleLayout
from torchgenaug.transforms import SeededTransform
from torchgenaug.types import FieldSpec

_DEEPEST = 8


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


def described(value: Any, depth: int = 0) -> str:
    """What decides a transform, as text: classes and settings; ``repr`` of TorchIO's transforms says no settings."""
    if depth > _DEEPEST:
        return type(value).__qualname__
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {value.shape} {content}"
    if isinstance(value, bool | int | float | str | bytes | type(None)):
        return repr(value)
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(f"{key!r}: {described(part, depth + 1)}" for key, part in sorted(value.items(), key=str))
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(described(part, depth + 1) for part in value) + "]"
    name = getattr(value, "__qualname__", None)
    if name is not None:
        return f"{value.__module__}.{name}"
    settings = getattr(value, "__dict__", None)
    if settings is None:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return f"{type(value).__module__}.{type(value).__qualname__}{described(settings, depth + 1)}"
