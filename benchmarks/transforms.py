"""What do seeding and conversion add to TorchIO's transforms, and what does rendering their results ahead save?

The same transform as users apply it, in a data set: a `tio.SubjectsDataset`, and a data set of tensors that makes a
Subject for the transform and takes the tensor out again. Against each, `SyntheticMixDataset` over the same samples
(ratio 0, so that nothing but the transform happens), which seeds the generators for every sample. The overhead is what
is added, as a share of processor time; below 0 where the mix saves more than it adds: the second deep copy of each
sample, and the price at which TorchIO seeds its noise.
Then the same variants from shards, rendered once (`TransformedSynthesizer`): how many times faster they are read than
made.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.harness import interleaved, publish
from torchgenaug import RealFields, SyntheticMixDataset, SyntheticSequence, TransformedSynthesizer, render_shards

# Shape, samples in a batch, and batches per timing.
SIZES = {"1×64×64": ((1, 64, 64), 32, 2), "1×256×256": ((1, 256, 256), 8, 2), "1×96×96×96": ((1, 96, 96, 96), 2, 1)}


class Separate(Dataset[tuple[Tensor]]):
    """Samples that have their memory to themselves: TorchIO's deep copy of a view takes all that it is a view of."""

    def __init__(self, samples: Tensor) -> None:
        self.samples = [sample.clone() for sample in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor]:
        return (self.samples[index],)


class ByHand(Dataset[tuple[Tensor]]):
    """What people write who have tensors and want TorchIO."""

    def __init__(self, samples: Dataset[tuple[Tensor]], apply: Any) -> None:
        self.samples, self.apply = samples, apply

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor]:
        import torchio as tio

        (image,) = self.samples[index]
        flat = image.ndim == 3
        moved = self.apply(tio.Subject(image=tio.ScalarImage(tensor=image[..., None] if flat else image)))
        return (moved.image.data[..., 0] if flat else moved.image.data,)


def transform(name: str, shape: tuple[int, ...]) -> Any:
    import torchio as tio

    flat = len(shape) == 3
    if name == "affine":
        if not flat:
            return tio.RandomAffine()
        return tio.RandomAffine(
            degrees=(0, 0, 0, 0, -10, 10), scales=(0.9, 1.1, 0.9, 1.1, 1, 1), translation=(-3, 3, -3, 3, 0, 0)
        )
    if name == "flip":
        return tio.RandomFlip(axes=(0, 1))
    if name == "elastic":
        return tio.RandomElasticDeformation(max_displacement=(4, 4, 0) if flat else 4)
    return tio.RandomNoise()


def images(shape: tuple[int, ...], count: int) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def subjects(samples: Tensor) -> list[Any]:
    import torchio as tio

    return [
        tio.Subject(image=tio.ScalarImage(tensor=image.clone() if image.ndim == 4 else image[..., None].clone()))
        for image in samples
    ]


def unseeded(dataset: Any) -> Callable[[], Any]:
    return lambda: [dataset[k] for k in range(len(dataset))]


def seeded(real: Any, apply: Any, fields: tuple[str, ...] | None) -> Callable[[], Any]:
    """A whole epoch of a mix of nothing but real samples, all transformed."""
    mixed = SyntheticMixDataset(real, real, 0.0, fields=fields, transform=apply)
    epochs = itertools.count()  # the same epoch again and again would be warned of

    def run() -> Any:
        mixed.set_epoch(next(epochs))
        return mixed.__getitems__(list(range(len(real))))

    return run


def rendered(apply: Any, samples: Tensor, folder: Path, variants: int) -> tuple[Callable[[], Any], Any]:
    """Batches of the variants, from shards; and the source."""
    originals = RealFields([{"image": image} for image in samples], "image")
    synthesizer = TransformedSynthesizer(apply, originals, fingerprint="benchmark")
    count = len(samples)
    source = render_shards(
        SyntheticSequence(synthesizer, originals), folder, variants * count, batch_size=count, progress=False,
        ranks=(0, 1),
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(len(source))
    return lambda: source.read(order[:count]), source


def compared(size: str, name: str, rounds: int) -> dict[str, float]:
    import torchio as tio

    shape, count, passes = SIZES[size]
    passes *= 4 if name in ("flip", "noise") else 1  # quick ones; half of the flips do nothing, by chance
    apply, samples = transform(name, shape), images(shape, count)
    separate = Separate(samples)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        read, source = rendered(apply, samples, Path(folder), 2)
        calls = {
            "tensors, by hand": unseeded(ByHand(separate, apply)),
            "tensors, mix": seeded(separate, apply, ("image",)),
            "Subjects, SubjectsDataset": unseeded(tio.SubjectsDataset(subjects(samples), transform=apply)),
            "Subjects, mix": seeded(subjects(samples), apply, None),
            "from shards": read,
        }
        contestants = {title: (lambda call=call: [call() for _ in range(passes)]) for title, call in calls.items()}
        taken = interleaved(contestants, rounds=rounds, clock=time.process_time)
        medians = {title: timing.median for title, timing in taken.items()}
        parents = source.column("parent").tolist()
    if sorted(parents) != sorted([*range(count), *range(count)]):
        raise AssertionError(f"{size} {name}: not two variants of each sample: {parents}")
    one, two = calls["tensors, mix"](), calls["tensors, mix"]()
    if all(torch.equal(a, b) for (a,), (b,) in zip(one, two, strict=True)) or one[0][0].shape != shape:
        raise AssertionError(f"{size} {name}: not transformed anew in each epoch")
    # Of medians, not of rounds: the transforms draw other numbers each time, and some are slower than others.
    return {
        "ms_per_sample": 1e3 * medians["tensors, by hand"] / passes / count,
        "overhead": medians["tensors, mix"] / medians["tensors, by hand"] - 1,
        "overhead_of_subjects": medians["Subjects, mix"] / medians["Subjects, SubjectsDataset"] - 1,
        "from_shards_times_faster": medians["tensors, by hand"] / medians["from shards"],
    }


def measure(*, quick: bool = False) -> dict[str, Any]:
    import SimpleITK as sitk  # noqa: N813 (its own custom)

    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sizes: dict[str, Any] = {}
    try:
        for size in list(SIZES)[:1] if quick else SIZES:
            rounds = 2 if quick else 3 if size == "1×96×96×96" else 15
            sizes[size] = {name: compared(size, name, rounds) for name in ("affine", "elastic", "flip", "noise")}
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return publish("transforms", {"sizes": sizes}, quick=quick)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
