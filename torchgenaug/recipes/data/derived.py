"""Samples with a condition that a family derives from the images themselves: what is cut out, or left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from torchgenaug.recipes.data.training_data import Samples, SelectedSamples, TensorSamples, TrainingData
from torchgenaug.types import FieldSpec


class DerivedSamples:
    """Each sample of another set, changed by a function of its index and itself. As picklable as that function."""

    def __init__(self, samples: Samples, derive: Callable[[int, Mapping[str, Tensor]], Mapping[str, Tensor]]) -> None:
        self.samples, self.derive = samples, derive

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        return self.derive(index, self.samples[index])

    def labels(self) -> Tensor | None:
        """(samples,) int64; None where reading them would read the images."""
        known = self.samples
        return known.labels() if isinstance(known, TensorSamples | SelectedSamples) else None


def derived(
    data: TrainingData,
    fields: Mapping[str, FieldSpec],
    derive: Callable[[int, Mapping[str, Tensor]], Mapping[str, Tensor]],
) -> TrainingData:
    """The data with each sample changed by `derive`; `fields` replace those of the same name."""
    return replace(data, samples=DerivedSamples(data.samples, derive), fields={**data.fields, **fields})
