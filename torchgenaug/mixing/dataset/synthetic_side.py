"""Reads synthetic samples, applies `synthetic_transform`, then converts them to the real samples' type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.fitting import ColumnFitting, SampleFitting, find_filler, positions_array
from torchgenaug.mixing.dataset.map_source import MapSource
from torchgenaug.samples.container_type import tensor_like
from torchgenaug.samples.kinds import infer_kind
from torchgenaug.samples.layout import MEMBER, PARENT, SampleLayout
from torchgenaug.samples.pil_images import is_picture
from torchgenaug.samples.seeded_transform import SeededTransform
from torchgenaug.samples.torchio_values import is_image
from torchgenaug.seeding import UInt64Array
from torchgenaug.types import Batch, FieldKind

Transform = Callable[[Any], Any]


class SyntheticSide(Protocol):
    """What a mix reads its synthetic samples from."""

    kinds: Mapping[str, FieldKind]
    notes: list[str]
    """What is converted, filled or left out, in words."""

    def samples(self, positions: Sequence[int], seeds: UInt64Array | None) -> tuple[list[Any], Batch]:
        """The samples at `positions`, like the real ones, and the batch that they were read as (empty for a data set).

        Args:
            positions: where they are read.
            seeds: one per sample, for `synthetic_transform`.
        """
        ...


class SourceSide:
    """Samples of a `SyntheticSource`.

    Args:
        source: the source.
        raw: layout of the real samples, whose type a transform gets.
        target: layout of the real samples after `real_transform`.
        transform: None does nothing.
    """

    def __init__(
        self, source: SyntheticSource, raw: SampleLayout, target: SampleLayout, transform: Transform | None
    ) -> None:
        self._source, self._raw, self._target = source, raw, target
        self._fields = {name: spec for name, spec in source.fields.items() if name not in (PARENT, MEMBER)}
        by_source = {name: spec.kind for name, spec in source.fields.items()}
        self.kinds: dict[str, FieldKind] = {
            name: by_source.get(origin) or infer_kind(name, value)
            for (name, value), origin in zip(target.items(target.template), target.sources, strict=True)
        }
        self.notes: list[str] = []
        self._change: ColumnFitting | SeededTransform
        self._fitting: SampleFitting | None = None
        if transform is None:
            self._change = ColumnFitting(target, source.fields)
            self.notes = self._change.notes
        else:
            empty = {name: torch.zeros(spec.shape, dtype=spec.dtype) for name, spec in self._fields.items()}
            positions = {name: name for name in raw.names}
            unnamed = raw.container in ("dict", "subject") or self._is_own_type
            layout = SampleLayout.of(self._named(empty), None if unnamed else positions)
            renamed = dict(zip(raw.names, (by_source.get(origin, "scalar") for origin in raw.sources), strict=True))
            self._change = SeededTransform(transform, layout, {**renamed, **by_source})

    def samples(self, positions: Sequence[int], seeds: UInt64Array | None) -> tuple[list[Any], Batch]:
        """See `SyntheticSide.samples`."""
        count, batch = len(positions), self._source.read(positions_array(positions))
        if isinstance(self._change, ColumnFitting):
            return self._change.samples(batch, count), batch
        if seeds is None:
            raise ConfigurationError("`seeds` must be given where samples are transformed, got None. One per sample.")
        columns = {name: batch[name].unbind(0) for name in self._fields}
        named = [self._named({name: rows[k] for name, rows in columns.items()}) for k in range(count)]
        changed = self._change(named, seeds)
        if self._fitting is None:
            self._fitting = SampleFitting(self._target, changed[0], self._raw.names, strict=False)
            self.notes = self._fitting.notes
        return [self._fitting(sample) for sample in changed], batch

    def _named(self, values: Mapping[str, Tensor]) -> Any:
        """One sample as a transform gets it: tensors by name, by position in a tuple or list, images in a Subject."""
        raw = self._raw
        likes = {origin: like for (_, like), origin in zip(raw.items(raw.template), raw.sources, strict=True)}
        tensors = {
            name: tensor_like(likes[name], value) if isinstance(likes.get(name), Tensor) else value
            for name, value in values.items()
        }
        if raw.container == "dict" or self._is_own_type:
            return tensors
        if raw.container == "subject":
            return self._subject(values, likes)
        fillers = {name: find_filler(name, likes[origin]) for name, origin in zip(raw.names, raw.sources, strict=True)}
        row = [
            tensors[origin] if origin in tensors else (filler.rows(1)[0] if (filler := fillers[name]) else None)
            for name, origin in zip(raw.names, raw.sources, strict=True)
        ]
        return raw.assemble([[value] for value in row], 1)[0]

    @property
    def _is_own_type(self) -> bool:
        """Whether real samples are of a class of the user's, such as a dataclass, which only a transform can build."""
        like = self._raw.template
        made_here = (Tensor, np.ndarray, np.generic, bool, int, float, complex, str, bytes)
        return self._raw.container == "tensor" and not (isinstance(like, made_here) or is_picture(like))

    def _subject(self, values: Mapping[str, Tensor], likes: dict[str, Any]) -> Any:
        import torchio as tio

        images = [like for like in likes.values() if is_image(like)]
        parts: dict[str, Any] = {}
        for name, value in values.items():
            spec, like = self._fields[name], likes.get(name, value)
            if spec.kind == "scalar" or len(spec.shape) not in (3, 4):
                parts[name] = value
                continue
            default = tio.LabelMap if spec.kind == "label_map" else tio.ScalarImage
            kind = type(like) if is_image(like) else default
            affine = like.affine if is_image(like) else (images[0].affine if images else None)
            parts[name] = kind(tensor=value if value.ndim == 4 else value.unsqueeze(-1), affine=affine)
        return tio.Subject(parts)


class MapSide:
    """Samples of a map-style data set.

    Args:
        source: the data set.
        raw: layout of the real samples.
        target: layout of the real samples after `real_transform`.
        transform: None does nothing.
        first: one of the samples.
    """

    def __init__(
        self, source: MapSource, raw: SampleLayout, target: SampleLayout, transform: Transform | None, first: Any
    ) -> None:
        self._source, self._raw, self._target = source, raw, target
        self.kinds: dict[str, FieldKind] = {
            name: infer_kind(name, value) for name, value in target.items(target.template)
        }
        self.notes: list[str] = []
        self._transform: SeededTransform | None = None
        self._fitting: SampleFitting | None = None
        if transform is None:
            self._fit(first)
        else:
            own = SampleLayout.of(first, _positions(first, raw))
            kinds = {name: infer_kind(name, value) for name, value in own.items(own.template)}
            self._transform = SeededTransform(transform, own, kinds)

    @property
    def is_identity(self) -> bool:
        """Whether the samples are handed out just as the data set returns them."""
        return self._transform is None and self._fitting is not None and self._fitting.is_identity

    def samples(self, positions: Sequence[int], seeds: UInt64Array | None) -> tuple[list[Any], Batch]:
        """See `SyntheticSide.samples`."""
        samples = self._source.samples(list(positions))
        if self._transform is not None and seeds is not None:
            samples = self._transform(samples, seeds)
        fitting = self._fitting or self._fit(samples[0])
        return (samples if fitting.is_identity else [fitting(sample) for sample in samples]), {}

    def _fit(self, sample: Any) -> SampleFitting:
        strict = self._transform is None
        fitting = self._fitting = SampleFitting(self._target, sample, self._raw.names, strict=strict)
        self.notes = fitting.notes
        return fitting


def _positions(sample: Any, layout: SampleLayout) -> dict[str, str] | None:
    """Names of the positions of a synthetic tuple or list, or of its single value."""
    if isinstance(sample, Mapping) or hasattr(sample, "_fields"):
        return None
    size = len(sample) if isinstance(sample, (tuple, list)) else 1
    names = layout.names if len(layout.names) == size else tuple(f"field_{k}" for k in range(size))
    return {name: name for name in names}
