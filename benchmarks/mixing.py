"""What does `SyntheticMixDataset` cost per sample, over a DataLoader on the same in-memory data set without it?

1×64×64 float32 images with an int label, batch 64, shuffled. The synthetic set is in memory, too: as a map-style data
set (what the target of 1.05 speaks of) and as a source that is read in batches. Samples are tuples, dicts and
Subjects; the real set is read item by item, or has ``__getitems__``; with and without a transform. Real labels are 0
and synthetic ones 1, so that a pass can be checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, WeightedRandomSampler

from benchmarks.harness import interleaved, is_wanted, publish, ratios
from torchgenaug import FieldSpec, SyntheticMixDataset
from torchgenaug.samples.torchio_values import is_subject

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


class Batched(InMemory):
    """The same with ``__getitems__``."""

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        labels = self.labels
        return [(image, labels[k]) for image, k in zip(self.images[indices].unbind(), indices, strict=True)]


class Dicts(InMemory):
    def __getitem__(self, index: int) -> Any:
        return {"image": self.images[index], "label": self.labels[index]}


class Subjects(Dataset[Any]):
    """Subjects that are there already; nothing is copied."""

    def __init__(self, size: int, label: int, shape: tuple[int, ...] = (1, 64, 64, 1)) -> None:
        import torchio as tio

        images = torch.rand(shape).expand(size, *shape).clone()
        self.subjects = [tio.Subject(image=tio.ScalarImage(tensor=image), label=label) for image in images]

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, index: int) -> Any:
        return self.subjects[index]


class Flipped(InMemory):
    """The transform as it is written without a mix."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return flipped(super().__getitem__(index))


class ByHand(Dataset[Any]):
    """Two sets and a list of which sample is at which place: nothing is drawn, checked or counted."""

    def __init__(self, real: InMemory, synthetic: InMemory, ratio: float) -> None:
        self.sets = (real, synthetic)
        chosen = torch.rand(len(real), generator=torch.Generator().manual_seed(0)).argsort() < round(ratio * len(real))
        self.places = [(int(each), row) for row, each in enumerate(chosen)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        which, row = self.places[index]
        return self.sets[which][row]


def flipped(sample: tuple[Tensor, int]) -> tuple[Tensor, int]:
    return sample[0].flip(-1), sample[1]


def labels_of(samples: list[Any]) -> tuple[Tensor, Tensor]:
    """Collates Subjects."""
    return torch.stack([one["image"].data for one in samples]), torch.tensor([int(one["label"]) for one in samples])


def epoch(dataset: Dataset[Any], workers: int, sampler: Any = None) -> Tensor:
    """One pass; returns the labels that were seen."""
    loader = DataLoader(
        dataset,
        64,
        shuffle=sampler is None,
        sampler=sampler,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
        collate_fn=labels_of if is_subject(dataset[0]) else None,
    )
    return torch.cat([batch["label"] if isinstance(batch, dict) else batch[1] for batch in loader])


def compared(kind: str, size: int, workers: int, rounds: int) -> dict[str, Any]:
    """Passes over mixes of one kind of samples, relative to a pass over the unwrapped data set."""
    make, options = KINDS[kind]
    bare = InMemory if make is Flipped else make
    base, real, synthetic = make(size, 0), bare(size, 0), bare(size, 1)
    source = InMemorySource(InMemory(size, 1))
    if make is Subjects:
        source.images = source.images[..., None]
        source.fields = {**source.fields, "image": FieldSpec((1, 64, 64, 1))}
    datasets: dict[str, Any] = {"unwrapped": base, "ratio 0": SyntheticMixDataset(real, synthetic, 0.0, **options)}
    for ratio in RATIOS:
        datasets[f"ratio {ratio}, map-style"] = SyntheticMixDataset(real, synthetic, ratio, **options)
        datasets[f"ratio {ratio}, source"] = SyntheticMixDataset(real, source, ratio, **options)
    contestants: dict[str, Any] = {
        name: (lambda d=dataset: next_epoch(d, workers)) for name, dataset in datasets.items()
    }
    if kind == "tuple":
        by_hand = ByHand(real, synthetic, 0.25)
        contestants["0.25 by hand: two sets and a list"] = lambda: epoch(by_hand, workers)
        subset = Subset(base, range(size))
        contestants["Subset of torch"] = lambda: epoch(subset, workers)
        both: ConcatDataset[Any] = ConcatDataset([real, synthetic])
        weights = [0.75] * size + [0.25] * size
        contestants["ConcatDataset + WeightedRandomSampler"] = lambda: epoch(
            both, workers, WeightedRandomSampler(weights, size, generator=torch.Generator().manual_seed(0))
        )
    table = ratios(interleaved(contestants, rounds=rounds), "unwrapped")
    for name, dataset in datasets.items():
        ratio = float(name.removeprefix("ratio ").partition(",")[0]) if name.startswith("ratio") else 0.0
        if int(next_epoch(dataset, 0).sum()) != round(ratio * size):
            raise AssertionError(f"{kind}, {name}: not {ratio} of {size} samples are synthetic")
    unwrapped = table["unwrapped"]["median_s"]
    for entry in table.values():
        entry["added_us_per_sample"] = 1e6 * (entry["median_s"] - unwrapped) / size
    return table


def next_epoch(dataset: Any, workers: int) -> Tensor:
    if isinstance(dataset, SyntheticMixDataset):
        dataset.set_epoch(dataset.epoch + 1)
    return epoch(dataset, workers)


RATIOS = (0.25, 0.9)
_NAMED: dict[str, Any] = {"fields": FIELDS}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tuple": (InMemory, _NAMED),
    "tuple, __getitems__": (Batched, _NAMED),
    "tuple, transform": (Flipped, {**_NAMED, "transform": flipped}),
    "dict": (Dicts, {}),
    "Subject": (Subjects, {}),
}


def measure(*, quick: bool = False, only: str | None = None) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for kind in KINDS:
        if not is_wanted(f"{kind}, 0 workers", only):
            continue
        size, rounds = (640, 2) if quick else (20_000, 15) if kind == "tuple" else (4_000, 7)
        results[f"{kind}, 0 workers"] = compared(kind, size, 0, rounds)
    if not quick and is_wanted("tuple, 2 workers", only):
        results["tuple, 2 workers"] = compared("tuple", 20_000, 2, 7)
    return publish("mixing", results, quick=quick, only=only)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
