"""What does `SyntheticMixDataset` cost per sample, over a DataLoader on the same in-memory data set without it?

1×64×64 float32 images with an int label, batch 64, shuffled. The synthetic set is in memory, too: as a map-style data
set (what the target of 1.05 speaks of) and as a source that is read in batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, WeightedRandomSampler

from benchmarks.harness import interleaved, publish, ratios
from torchgenaug import FieldSpec, SyntheticMixDataset

FIELDS = ("image", "label")


class InMemory(Dataset[tuple[Tensor, int]]):
    """A plain data set as users write it."""

    def __init__(self, size: int, label: int) -> None:
        self.images = torch.rand(64, 64).expand(size, 1, 64, 64).clone()
        self.labels = [label] * size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


class InMemorySource:
    """The same samples behind `torchgenaug.contracts.SyntheticSource`."""

    fields = {"image": FieldSpec((1, 64, 64)), "label": FieldSpec((), torch.int64, kind="scalar")}  # noqa: RUF012
    fingerprint = "0" * 64

    def __init__(self, samples: InMemory) -> None:
        self.images, self.labels = samples.images, torch.tensor(samples.labels)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, positions: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        rows = torch.from_numpy(positions)
        return {"image": self.images.index_select(0, rows), "label": self.labels.index_select(0, rows)}

    def read_into(self, positions: npt.NDArray[np.int64], out: dict[str, Tensor]) -> None:
        rows, data = torch.from_numpy(positions), {"image": self.images, "label": self.labels}
        for name, values in out.items():
            torch.index_select(data[name], 0, rows, out=values)

    def ids(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return positions

    def seeds(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        return positions.astype(np.uint64)

    def column(self, field: str) -> Tensor:
        return self.labels


def epoch(dataset: Dataset[Any], workers: int, sampler: Any = None) -> Tensor:
    """One pass; returns the labels that were seen."""
    loader = DataLoader(
        dataset,
        64,
        shuffle=sampler is None,
        sampler=sampler,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
    )
    return torch.cat([labels for _, labels in loader])


def measure(*, quick: bool = False) -> dict[str, Any]:
    size, rounds = (640, 2) if quick else (20_000, 9)
    real, synthetic = InMemory(size, 0), InMemory(size, 1)
    source = InMemorySource(synthetic)
    datasets: dict[str, Any] = {
        "plain": real,
        "wrapped, ratio 0": SyntheticMixDataset(real, synthetic, 0.0, fields=FIELDS),
        "wrapped, ratio 0.25, map-style synthetic set": SyntheticMixDataset(real, synthetic, 0.25, fields=FIELDS),
        "wrapped, ratio 0.25, batched source": SyntheticMixDataset(real, source, 0.25, fields=FIELDS),
    }
    both = ConcatDataset([real, synthetic])
    weights = torch.cat([torch.full((size,), 0.75), torch.full((size,), 0.25)])
    results: dict[str, Any] = {}
    for workers in (0,) if quick else (0, 2):
        contestants = {name: (lambda d=dataset, w=workers: epoch(d, w)) for name, dataset in datasets.items()}
        contestants["ConcatDataset + WeightedRandomSampler"] = lambda w=workers: epoch(
            both, w, WeightedRandomSampler(weights.tolist(), size, generator=torch.Generator().manual_seed(0))
        )
        results[f"{workers} workers"] = ratios(interleaved(contestants, rounds=rounds), "plain")
    for name, dataset in datasets.items():
        expected = round(0.25 * size) if "0.25" in name else 0
        assert int(epoch(dataset, 0).sum()) == expected, name
    return publish("mixing", results, quick=quick)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
