"""What do filtered, balanced and combined sources, many shards and Subjects cost, over plain reading?

1. A `ShardSource` of 1×64×64 images in 4 shards, read in batches of 64 in a random order; against it rows of one
   class (`keep_classes`), of all classes in equal shares (`balance_classes`), of two folders (`CombinedSource`), and
   the same samples in 256 shards.
2. `tio.SubjectsLoader` over Subjects in memory; against it the same loader over a mix, half of it from shards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import interleaved, publish, ratios
from benchmarks.mixing import Subjects
from torchgenaug import (
    ClassLabels,
    CombinedSource,
    FieldSpec,
    FunctionSynthesizer,
    ShardSource,
    SyntheticMixDataset,
    SyntheticSequence,
    balance_classes,
    keep_classes,
    render_shards,
)
from torchgenaug.contracts import SyntheticSource
from torchgenaug.types import Batch

BATCH, CLASSES = 64, 4


def shards(folder: Path, count: int, number: int, shape: tuple[int, ...], name: str = "") -> ShardSource:
    """`count` samples in `number` shards; every pixel of one is its class."""

    def made(seeds: Any, conditions: Batch) -> Batch:
        labels = conditions["label"]
        return {"image": labels.float().view(-1, *[1] * len(shape)).expand(-1, *shape).clone(), "label": labels}

    label = FieldSpec((), torch.int64, kind="scalar", value_range=(0, CLASSES - 1))
    synthesizer = FunctionSynthesizer(
        made,
        {"image": FieldSpec(shape), "label": label},
        fingerprint=f"classes {name}",
    )
    sequence = SyntheticSequence(synthesizer, ClassLabels(CLASSES), screens=())
    render_shards(sequence, folder, count, batch_size=32, shard_size=-(-count // number), progress=False, ranks=(0, 1))
    return ShardSource(folder)


def one_pass(source: SyntheticSource, count: int) -> None:
    """`count` samples in a random order; what is read is what was asked for."""
    order = np.random.default_rng(0).permutation(len(source))
    order = np.resize(order, count)
    for first in range(0, count, BATCH):
        batch = source.read(order[first : first + BATCH])
        if not torch.equal(batch["image"][:, 0, 0, 0], batch["label"].float()):
            raise AssertionError("image and class differ")


def of_sources(count: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        root, shape = Path(scratch), (1, 64, 64)
        plain = shards(root / "plain", count, 4, shape)
        sources: dict[str, SyntheticSource] = {
            "ShardSource, 4 shards": plain,
            "the same in 256 shards": shards(root / "many", count, 256, shape),
            "keep_classes, one of four": keep_classes(plain, [1]),
            "balance_classes": balance_classes(plain),
            "CombinedSource of two folders": CombinedSource([plain, shards(root / "other", count, 4, shape, "other")]),
        }
        contestants: dict[str, Callable[[], Any]] = {
            name: (lambda source=source: one_pass(source, count)) for name, source in sources.items()
        }
        return ratios(interleaved(contestants, rounds=rounds), "ShardSource, 4 shards")


def of_subjects(shape: tuple[int, ...], count: int, rounds: int) -> dict[str, Any]:
    import torchio as tio

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        source = shards(Path(scratch) / "shards", count, 4, shape)
        real = Subjects(count, 0, shape)
        mixed = SyntheticMixDataset(real, source, 0.5)

        def through(dataset: Any) -> None:
            seen = 0
            for batch in tio.SubjectsLoader(dataset, batch_size=min(BATCH, count // 2), shuffle=True):
                seen += len(batch["image"][tio.DATA])
            if seen != count:
                raise AssertionError(f"{seen} samples in place of {count}")

        contestants = {"in memory": lambda: through(real), "half from shards": lambda: through(mixed)}
        return ratios(interleaved(contestants, rounds=rounds), "in memory")


def measure(*, quick: bool = False) -> dict[str, Any]:
    results = {"sources": of_sources(*((512, 2) if quick else (4096, 15)))}
    for shape, count in (((1, 64, 64, 1), 2048), ((1, 96, 96, 96), 16)):
        name = "SubjectsLoader, " + "×".join(map(str, shape))
        results[name] = of_subjects(shape if not quick else (1, 16, 16, 1), 16 if quick else count, 2 if quick else 9)
    return publish("sources", results, quick=quick)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
