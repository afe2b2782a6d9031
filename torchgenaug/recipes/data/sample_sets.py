"""Samples of `TrainingData`: in memory, a selection of others, or others under new names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor


class Samples(Protocol):
    """Anything with a length that gives sample k as a dict of tensors, without the batch axis."""

    def __len__(self) -> int:
        """How many samples there are."""
        ...

    def __getitem__(self, index: int, /) -> Mapping[str, Tensor]:
        """Sample `index`, from 0."""
        ...


class TensorSamples:
    """Samples in memory: one tensor per field, batch axis first."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.columns = dict(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: column[index] for name, column in self.columns.items()}

    def labels(self) -> Tensor | None:
        """(samples,) int64; None without labels."""
        return self.columns.get("label")

    @property
    def num_bytes(self) -> int:
        """Memory of all fields."""
        return sum(column.nbytes for column in self.columns.values())


class SelectedSamples:
    """Some samples of another set, in the order of `rows`."""

    def __init__(self, samples: Samples, rows: Sequence[int]) -> None:
        self.samples, self.rows = samples, [int(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        return self.samples[self.rows[index]]

    def labels(self) -> Tensor | None:
        """(samples,) int64; None without labels."""
        found = known_labels(self.samples)
        return None if found is None else found[self.rows]


class RenamedSamples:
    """Samples of another set with other names for some fields, or without them.

    Args:
        samples: the other set.
        names: new name → name there.
    """

    def __init__(self, samples: Samples, names: Mapping[str, str]) -> None:
        self.samples, self.names = samples, dict(names)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.samples[index]
        return {name: sample[old] for name, old in self.names.items()}

    def labels(self) -> Tensor | None:
        """(samples,) int64; None without labels."""
        return known_labels(self.samples) if self.names.get("label") == "label" else None


def known_labels(samples: Samples) -> Tensor | None:
    """Labels that can be had without reading images."""
    labels = getattr(samples, "labels", None)
    return labels() if callable(labels) else None
