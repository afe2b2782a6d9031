"""`MapSource`: any map-style data set of synthetic samples, already in the real data set's own sample type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.samples import SampleLayout, infer_kind
from torchgenaug.sequence import SyntheticSequence
from torchgenaug.types import FieldKind


class MapSource:
    """Synthetic samples from a data set with ``__len__`` and ``__getitem__`` whose samples look like the real ones.

    Args:
        dataset: the synthetic samples.
        layout: layout of the real samples.

    Raises:
        FieldMismatchError: the first synthetic sample is of another type, or has other fields, shapes or dtypes.
    """

    def __init__(self, dataset: Any, layout: SampleLayout) -> None:
        self.dataset, self.layout = dataset, layout
        if len(dataset):
            self._check(dataset[0])

    def __len__(self) -> int:
        return len(self.dataset)

    def samples(self, positions: list[int]) -> list[Any]:
        """The samples at `positions`, as the data set hands them out."""
        batched = getattr(self.dataset, "__getitems__", None)
        if callable(batched):
            return list(batched(positions))
        return [self.dataset[position] for position in positions]

    def labels(self, name: str) -> npt.NDArray[np.int64]:
        """A scalar field of all samples; reads every one of them."""
        return np.array([int(self.layout.split(self.dataset[k])[name]) for k in range(len(self))], np.int64)

    def kinds(self) -> Mapping[str, FieldKind]:
        """Kinds of the fields, judged by the real sample."""
        return {name: infer_kind(value) for name, value in self.layout.items(self.layout.template)}

    def _check(self, sample: Any) -> None:
        try:
            other = SampleLayout.of(sample, self.layout.names)
        except ConfigurationError as error:
            raise FieldMismatchError(f"Synthetic samples must look like the real ones. {error}") from error
        if other.container != self.layout.container:
            raise FieldMismatchError(
                f"Synthetic samples must be of the real samples' type, {self.layout.container}, got {other.container}."
            )
        problems = []
        for (name, real), (_, synthetic) in zip(
            self.layout.items(self.layout.template), other.items(sample), strict=True
        ):
            expected, got = _describe(real), _describe(synthetic)
            if expected != got:
                problems.append(f"{name!r}: real {expected}, synthetic {got}")
        if problems:
            raise FieldMismatchError(
                "Synthetic samples must have the fields, shapes and dtypes of the real ones. Differences:\n  - "
                + "\n  - ".join(problems)
                + "\nConvert them in the synthetic data set, or with `synthetic_transform`."
            )


def check_map_style(dataset: object, name: str) -> None:
    """Raises `ConfigurationError` unless `dataset`, the argument `name`, can be read by index."""
    if isinstance(dataset, SyntheticSequence):
        raise ConfigurationError(
            "`synthetic` must be a source that holds samples ready, got a SyntheticSequence, which makes them one call "
            "at a time. Wrap it: SyntheticPool(sequence, capacity=256), or render_shards(sequence, 'shards', 1000)."
        )
    readable = hasattr(dataset, "__getitem__") or (name == "synthetic" and hasattr(dataset, "read"))
    if not (readable and hasattr(dataset, "__len__")):
        raise ConfigurationError(
            f"`{name}` must be a map-style data set (with __getitem__ and __len__), got {type(dataset).__name__}. "
            "An iterable data set has no indices to replace; load it into a list, or wrap its DataLoader."
        )


def _describe(value: Any) -> str:
    data = getattr(value, "data", value)
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return f"{tuple(data.shape)} {data.dtype}"
    return type(value).__name__
