"""Converts synthetic rows to the shape and dtype of the real rows of a batch, where nothing is lost by it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from torchgenaug.mixing.loader.batch_metadata import DATA, bare, is_image
from torchgenaug.mixing.loader.batches import BatchLayout, raise_mismatch
from torchgenaug.samples.conversion import Conversion, find_conversion
from torchgenaug.samples.kinds import infer_kind
from torchgenaug.samples.layout import MEMBER, PARENT, is_one_hot
from torchgenaug.types import FieldSpec

_logger = logging.getLogger("torchgenaug")
_Key: TypeAlias = tuple[Any, ...]


class RowConversion:
    """Converts by the rules of `torchgenaug.samples.conversion`; what is converted is stated once.

    Args:
        names: the fields of a batch, in order.
        fields: what the synthetic samples hold.
    """

    def __init__(self, names: tuple[str, ...], fields: Mapping[str, FieldSpec]) -> None:
        self._names, self._fields = names, fields
        self._found: dict[_Key, Conversion | str] = {}
        self._stated: set[tuple[str, str]] = set()

    def __call__(self, real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> list[Tensor]:
        """The synthetic tensors, each (rows, …), with rows of the shape and dtype of the real ones.

        Raises:
            FieldMismatchError: they do not fit; every difference is listed.
        """
        problems, fitted, notes = [], [], []
        for name, there, here in zip(self._names, real, synthetic, strict=True):
            if here.shape[1:] != there.shape[1:] or here.dtype != there.dtype:
                found = self._find(name, there, here)
                if isinstance(found, str):
                    problems.append(f"{name!r}: {found}")
                    continue
                here = bare(here)
                for step in found.steps:
                    here = step(here)
                if found.changes and here.ndim > 1 and (name, found.changes) not in self._stated:
                    self._stated.add((name, found.changes))
                    notes.append(f"{name!r} is converted ({found.changes})")
            fitted.append(here)
        raise_mismatch(problems, self._names)
        if notes:
            _logger.warning(f"Synthetic rows are fitted to the real ones: {'; '.join(notes)}.")
        return fitted

    def check(self, layout: BatchLayout, batch: Any) -> None:
        """Raises `FieldMismatchError`, listing every difference, unless the synthetic samples fit into this batch."""
        fields = self._fields
        problems = [f"missing {name!r}: the real batches have it" for name in layout.names if name not in fields]
        for name, value in layout.items(batch):
            data = value[DATA] if is_image(value) else value
            if name in fields and not isinstance(data, Tensor):
                problems.append(f"{name!r}: real is of type {type(data).__name__}, which cannot be made from a tensor")
            elif name in fields:
                found = self._search(name, data, fields[name])
                problems += [f"{name!r}: {found}"] if isinstance(found, str) else []
        if layout.container in ("dict", "subject") and not layout.chosen:
            surplus = [name for name in fields if name not in layout.names and name not in (PARENT, MEMBER)]
            problems += [
                f"surplus {name!r}: the synthetic samples have it, the real batches do not" for name in surplus
            ]
        raise_mismatch(problems, tuple(name for name in layout.names if name in fields))

    def _find(self, name: str, real: Tensor, synthetic: Tensor) -> Conversion | str:
        key = (name, real.shape[1:], real.dtype, synthetic.shape[1:], synthetic.dtype)
        if key not in self._found:
            spec = self._fields.get(name)
            shape, dtype = tuple(synthetic.shape[1:]), synthetic.dtype
            if spec is None or (spec.shape, spec.dtype) != (shape, dtype):  # a transform has changed it
                spec = FieldSpec(shape, dtype, kind=infer_kind(name, synthetic[0] if len(synthetic) else synthetic))
            self._found[key] = self._search(name, real, spec)
        return self._found[key]

    def _search(self, name: str, real: Tensor, spec: FieldSpec) -> Conversion | str:
        like = bare(real)[0] if len(real) else bare(real).new_zeros(real.shape[1:])
        return find_conversion(name, like, spec, one_hot=is_one_hot(like))
