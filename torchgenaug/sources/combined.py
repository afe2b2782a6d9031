"""`CombinedSource`: several sources as one, each with its share."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.contracts import (
    Changing,
    ChangingWithinEpoch,
    Joined,
    Ranked,
    ReadsInto,
    SyntheticSource,
    trained_on_all,
)
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError
from torchgenaug.sources.dataset import SourceDataset
from torchgenaug.sources.positions import checked_positions
from torchgenaug.sources.shares import shares_of
from torchgenaug.types import Batch, FieldSpec


class CombinedSource(SourceDataset):
    """Several sources as one: a `torch.utils.data.Dataset` of dicts of tensors, and a source for mixing.

    Without weights every sample of every source is there once. With weights the shares are exact: source i has
    ``length * weights[i] / sum(weights)`` positions, rounded by less than 1, and within a source every sample is used
    equally often (±1). Deterministic; picklable if the sources are; keeps no list of positions.

    Ids and seeds stay those of the source that a sample comes from, and `locate` says which one that is.

    Args:
        sources: at least one, with equal fields (value ranges may differ; the union is stated then).
        weights: one positive number per source; None to use each sample once.
        length: number of positions, with weights only; None for the smallest at which every sample is used.

    Raises:
        ConfigurationError: weights or length outside their domains.
        EmptyDatasetError: no source, or one without samples.
        FieldMismatchError: sources with different fields, shapes, dtypes or kinds.

    Example:
        >>> from torchgenaug import SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
        >>> few = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8)), seed=1), 3)
        >>> many = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8)), seed=2), 9)
        >>> both = CombinedSource([few, many], weights=[1, 1])
        >>> len(both), np.bincount(both.locate(np.arange(len(both)))[0]).tolist()
        (18, [9, 9])
    """

    def __init__(
        self,
        sources: Sequence[SyntheticSource],
        weights: Sequence[float] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        self.sources = tuple(sources)
        sizes = [len(source) for source in self.sources]
        if not sizes or not all(sizes):
            raise EmptyDatasetError(
                f"`sources` must be at least one source with at least one sample each, got lengths {sizes}."
            )
        self.fields: Mapping[str, FieldSpec] = _common_fields(self.sources)
        if weights is None and length is not None:
            raise ConfigurationError(
                f"`length` must be None without weights, got {length}. Each sample is used once then; give weights, "
                "such as the lengths of the sources."
            )
        counts = sizes if weights is None else shares_of(sizes, weights, length)
        self._sizes = np.array(sizes, np.int64)
        self._starts = np.cumsum([0, *counts])
        self._columns: dict[tuple[int, str], Tensor] = {}

    @cached_property
    def fingerprint(self) -> str:
        """The sources' common fingerprint; if they differ, a sha256 over the fingerprints and the shares."""
        parts = [source.fingerprint for source in self.sources]
        if len(set(parts)) == 1:
            return parts[0]
        return hashlib.sha256("\n".join([*parts, *map(str, self._starts.tolist())]).encode()).hexdigest()

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """What the models of all sources were trained on, together; None where one of them does not know."""
        return trained_on_all({str(number): source for number, source in enumerate(self.sources)})

    @property
    def changes(self) -> bool:
        """Whether `set_epoch` changes what is there: whether one of the sources does."""
        return any(map(is_changing, self.sources))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def epoch(self) -> int | None:
        """Where the sources are; None if none of them has epochs, -1 if they are at different ones."""
        each = (getattr(source, "epoch", None) for source in self.sources)
        epochs = {epoch for epoch in each if epoch is not None}
        return None if not epochs else epochs.pop() if len(epochs) == 1 else -1

    @property
    def refresh(self) -> list[float | None] | None:
        """Which fraction of each source is replaced from epoch to epoch; None if none of them changes."""
        each = [getattr(source, "refresh", None) for source in self.sources]
        return None if all(one is None for one in each) else each

    @property
    def world_size(self) -> int:
        """Above 1 if the samples are this process's own: those of all sources are."""
        return min(source.world_size if isinstance(source, Ranked) else 1 for source in self.sources)

    @property
    def refreshes_per_epoch(self) -> int:
        """How many parts an epoch has: the least common multiple of the sources' parts."""
        parts = (source.refreshes_per_epoch for source in self.sources if isinstance(source, ChangingWithinEpoch))
        return math.lcm(*parts)

    def set_epoch(self, epoch: int, part: int = 0) -> None:
        """Passed on to the sources that have it (pools), each with the part of the epoch that it has then."""
        for source in self.sources:
            if isinstance(source, ChangingWithinEpoch) and source.refreshes_per_epoch > 1:
                source.set_epoch(epoch, part * source.refreshes_per_epoch // self.refreshes_per_epoch)
            elif isinstance(source, Changing):
                source.set_epoch(epoch)

    def locate(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Which source each position belongs to, and the position there: two (n,) arrays.

        Raises:
            SampleIndexError: a position outside ``range(len(self))``.
        """
        array = checked_positions(positions, len(self))
        parts = np.searchsorted(self._starts, array, side="right") - 1
        return parts, (array - self._starts[parts]) % self._sizes[parts]

    def read(self, positions: npt.NDArray[np.int64]) -> Batch:
        """See `torchgenaug.contracts.SyntheticSource`, here and below. One call per source that is needed."""
        parts, within = self.locate(positions)
        needed = np.unique(parts).tolist() or [0]
        if len(needed) == 1:
            batch = self.sources[needed[0]].read(within)
            return {name: batch[name] for name in self.fields}
        result: Batch = {}
        for part in needed:
            rows = np.flatnonzero(parts == part)
            batch = self.sources[part].read(within[rows])
            for name in self.fields:
                values = batch[name]
                if name not in result:
                    result[name] = values.new_empty((len(parts), *values.shape[1:]))
                result[name][torch.from_numpy(rows).to(values.device)] = values
        return result

    def read_into(self, positions: npt.NDArray[np.int64], out: Batch) -> None:
        """`read`, into tensors that are there: some or all of the fields. An error leaves them in any state."""
        parts, within = self.locate(positions)
        needed = np.unique(parts).tolist()
        if len(needed) == 1:
            read_into(self.sources[needed[0]], within, out)
            return
        for part in needed:
            rows = np.flatnonzero(parts == part)
            # No source writes to scattered rows: those of each source are read together, and then put into place.
            read = {name: values.new_empty((len(rows), *values.shape[1:])) for name, values in out.items()}
            read_into(self.sources[part], within[rows], read)
            for name, values in read.items():
                out[name].index_copy_(0, torch.from_numpy(rows).to(values.device), values)

    def ids(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The sample's id in its own source's sequence."""
        parts, within = self.locate(positions)
        result = np.empty(len(parts), np.int64)
        for part in np.unique(parts).tolist():
            result[parts == part] = self.sources[part].ids(within[parts == part])
        return result

    def seeds(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The seed that the sample was made from."""
        parts, within = self.locate(positions)
        result = np.empty(len(parts), np.uint64)
        for part in np.unique(parts).tolist():
            result[parts == part] = self.sources[part].seeds(within[parts == part])
        return result

    def fingerprints(self, positions: npt.NDArray[np.int64]) -> list[str]:
        """The fingerprint of the sequence that each position's sample belongs to."""
        parts, within = self.locate(positions)
        names = [self.sources[part].fingerprint for part in parts.tolist()]
        for part in np.unique(parts).tolist():
            source = self.sources[part]
            if isinstance(source, Joined):  # a combination in a combination
                rows = np.flatnonzero(parts == part)
                for row, name in zip(rows.tolist(), source.fingerprints(within[rows]), strict=True):
                    names[row] = name
        return names

    def column(self, field: str) -> Tensor:
        """One scalar field of all positions. Columns of sources that do not change are read once."""
        columns = []
        for part, count in enumerate(np.diff(self._starts).tolist()):
            source = self.sources[part]
            column = self._columns.get((part, field))
            if column is None:
                column = source.column(field)
                if not is_changing(source):
                    self._columns[part, field] = column
            columns.append(column[torch.arange(count) % len(column)])
        return torch.cat(columns)

    def __repr__(self) -> str:
        parts = zip(np.diff(self._starts).tolist(), self.sources, strict=True)
        return f"CombinedSource({', '.join(f'{count} of {source!r}' for count, source in parts)})"


def read_into(source: SyntheticSource, positions: npt.NDArray[np.int64], out: Batch) -> None:
    """Reads samples of `source` into `out`, some of its fields, whether it has a ``read_into`` or not."""
    if isinstance(source, ReadsInto):
        source.read_into(positions, out)
        return
    batch = source.read(positions)
    for name, values in out.items():
        values.copy_(batch[name])


def is_changing(source: SyntheticSource) -> bool:
    """Whether a source's content depends on the epoch."""
    return bool(getattr(source, "changes", hasattr(source, "set_epoch")))


def _common_fields(sources: Sequence[SyntheticSource]) -> dict[str, FieldSpec]:
    first, *others = (dict(source.fields) for source in sources)
    for number, other in enumerate(others, 1):
        problems = [
            f"{name!r}: {first.get(name, 'absent')} in source 0, {other.get(name, 'absent')} in source {number}"
            for name in sorted(first.keys() | other.keys())
            if name not in first or name not in other or _form(first[name]) != _form(other[name])
        ]
        if problems:
            raise FieldMismatchError(
                "`sources` must have equal fields. Differences:\n  - " + "\n  - ".join(problems) + "\nRender the same "
                "fields, or use the sources in data sets of their own."
            )
        first = {name: _widened(spec, other[name]) for name, spec in first.items()}
    return first


def _form(spec: FieldSpec) -> tuple[Any, ...]:
    return spec.shape, spec.dtype, spec.kind


def _widened(one: FieldSpec, other: FieldSpec) -> FieldSpec:
    if one.value_range is None or other.value_range is None:
        limits = None
    else:
        limits = (min(one.value_range[0], other.value_range[0]), max(one.value_range[1], other.value_range[1]))
    return FieldSpec(one.shape, one.dtype, kind=one.kind, value_range=limits)
