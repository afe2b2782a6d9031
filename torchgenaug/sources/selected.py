"""`SelectedSource`: some positions of a source; `keep_classes` and `balance_classes` choose them by a scalar field."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.contracts import Joined, SyntheticSource, trained_on_of
from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.sources.combined import is_changing, read_into
from torchgenaug.sources.dataset import SourceDataset
from torchgenaug.sources.positions import checked_positions
from torchgenaug.sources.shares import apportion, checked_weights
from torchgenaug.types import Batch, FieldSpec


def check_unchanging(source: Any) -> None:
    """Refuses what cannot be read twice alike.

    Raises:
        ConfigurationError: no source of samples, or one that changes from epoch to epoch.
        EmptyDatasetError: a source without samples.
    """
    if not callable(getattr(source, "read", None)) or not hasattr(source, "__len__"):
        raise ConfigurationError(
            f"`source` must be a source of generated samples, got {type(source).__name__}. Render them first: "
            "source = render_shards(sequence, 'shards', count)."
        )
    if is_changing(source):
        raise ConfigurationError(
            f"`source` must hold the same samples in every epoch, got {type(source).__name__}. What is chosen now "
            "would be something else in the next epoch. Ask the model for what you want: for example "
            "ClassLabels(num_classes, weights=...) as conditions of the pool's sequence."
        )
    if not len(source):
        raise EmptyDatasetError("`source` must hold at least one sample, got none.")


class SelectedSource(SourceDataset):
    """The samples of a source at chosen positions: a `torch.utils.data.Dataset`, and a source for mixing.

    Ids, seeds and fingerprint stay those of the source. Picklable if the source is; 8 bytes per position.

    Args:
        source: one whose content does not change: a `torchgenaug.ShardSource`, not a pool.
        positions: (n,) positions in it, in any order, repeats allowed.

    Raises:
        ConfigurationError: a source that changes from epoch to epoch.
        EmptyDatasetError: no positions.
        SampleIndexError: a position outside the source.
    """

    def __init__(self, source: SyntheticSource, positions: npt.ArrayLike) -> None:
        check_unchanging(source)
        chosen = np.asarray(positions)
        if not chosen.size:
            raise EmptyDatasetError("`positions` must choose at least one sample, got none.")
        self.source = source
        self.positions = checked_positions(chosen, len(source)).copy()

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """See `torchgenaug.contracts.SyntheticSource`, here and below."""
        return self.source.fields

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the source."""
        return self.source.fingerprint

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """What the model of the source was trained on; None where unknown."""
        return trained_on_of(self.source)

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, positions: npt.NDArray[np.int64]) -> Batch:
        """The chosen samples at `positions`."""
        return self.source.read(self._there(positions))

    def read_into(self, positions: npt.NDArray[np.int64], out: Batch) -> None:
        """`read`, into tensors that are there: some or all of the fields. An error leaves them in any state."""
        read_into(self.source, self._there(positions), out)

    def ids(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Their ids in the sequence of the source."""
        return self.source.ids(self._there(positions))

    def seeds(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The seed that the sample at each position was made from: (n,) uint64."""
        return self.source.seeds(self._there(positions))

    def fingerprints(self, positions: npt.NDArray[np.int64]) -> list[str]:
        """The fingerprint of the sequence that each sample belongs to; they differ in a combined source."""
        if isinstance(self.source, Joined):
            return self.source.fingerprints(self._there(positions))
        return [self.fingerprint] * len(positions)

    def column(self, field: str) -> Tensor:
        """One scalar field of all chosen samples."""
        return self.source.column(field)[torch.from_numpy(self.positions)]

    def _there(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self.positions[checked_positions(positions, len(self))]

    def __repr__(self) -> str:
        return f"SelectedSource({len(self)} of {self.source!r})"


def keep_classes(source: SyntheticSource, keep: Collection[int | float], *, field: str = "label") -> SelectedSource:
    """The samples whose `field` is one of `keep`, in their order.

    Args:
        source: one whose content does not change.
        keep: values of the field.
        field: name of a scalar field.

    Raises:
        EmptyDatasetError: no sample has such a value; the values that there are are named.

    Example:
        >>> from torchgenaug import ClassLabels, SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
        >>> source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=3), ClassLabels(3)), 12)
        >>> keep_classes(source, [0, 2]).column("label").unique().tolist()
        [0, 2]
    """
    values = source.column(field).numpy()
    chosen = np.flatnonzero(np.isin(values, np.array(list(keep))))
    if not len(chosen):
        raise EmptyDatasetError(
            f"`keep` must name at least one value of {field!r} that is there, got {sorted(keep)!r}. The source holds "
            f"{np.unique(values)[:20].tolist()}."
        )
    return SelectedSource(source, chosen)


def balance_classes(
    source: SyntheticSource,
    *,
    field: str = "label",
    weights: Mapping[int, float] | None = None,
    length: int | None = None,
) -> SelectedSource:
    """Every class with its exact share (±1), every sample of a class equally often (±1). Deterministic.

    Args:
        source: one whose content does not change.
        field: name of a scalar integer field.
        weights: value → share, for each value to be kept; None for equal shares of all values that there are.
        length: number of positions; None for the smallest at which every sample of these classes is used: samples of
            rare classes are repeated, and none is lost.

    Raises:
        ConfigurationError: weights or length outside their domains.
        EmptyDatasetError: a class with a weight has no samples.

    Example:
        >>> from torchgenaug import ClassLabels, SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
        >>> labels = ClassLabels(2, weights=[0.8, 0.2])
        >>> source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=2), labels), 40)
        >>> balance_classes(source).column("label").bincount().diff().abs().item() <= 1
        True
    """
    values = source.column(field).numpy()
    kinds: Sequence[int] = np.unique(values).tolist() if weights is None else list(weights)
    shares = checked_weights([1.0] * len(kinds) if weights is None else list(weights.values()), len(kinds))
    groups = [np.flatnonzero(values == kind) for kind in kinds]
    empty = [kind for kind, group in zip(kinds, groups, strict=True) if not len(group)]
    if empty or not groups:
        raise EmptyDatasetError(
            f"Each class with a weight must have samples, got none of {field!r} in {empty}. The source holds "
            f"{np.unique(values)[:20].tolist()}."
        )
    if length is None:
        total = sum(shares)
        length = max(int(-(-len(group) * total // share)) for group, share in zip(groups, shares, strict=True))
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= 1 << 31:
        raise ConfigurationError(
            f"`length` must be an integer in [1, 2^31], got {length!r}. With very unequal weights, state it."
        )
    counts = apportion(length, shares)
    chosen = [group[np.arange(count) % len(group)] for group, count in zip(groups, counts, strict=True)]
    return SelectedSource(source, np.concatenate(chosen))
