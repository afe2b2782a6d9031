"""What is compared in every task, and how: the same training for each way to fill an epoch, real test data only.

The number of epochs is fixed, so an epoch of real and synthetic samples has more gradient steps than one of real
samples alone. That alone changes scores. The control is an epoch in which real samples are repeated until it is as
long; TorchIO transforms such an epoch, too.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from torchgenaug import SyntheticMixDataset
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import FitResult, Options, TrainingData
from torchgenaug.study.generators import train_generator

REAL, REPEATED, TORCHIO = "real only", "real, repeated", "real + TorchIO"
SHARDS, POOL, BOTH = "real + shards", "real + pool", "shards + TorchIO"
BASELINES = (REAL, REPEATED, TORCHIO)

Added = Literal["nothing", "repeated", "synthetic"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to fill an epoch.

    Attributes:
        name: in the table.
        dataset: what is trained on; samples say in ``provenance`` whether they were added.
        added: what those are that were added: real samples once more, or synthetic ones.
    """

    name: str
    dataset: Any
    added: Added


@dataclass(frozen=True, slots=True)
class Job:
    """The downstream network: how it learns and how it is judged.

    Attributes:
        build: a fresh network, from torch's default generator.
        loss: of a network on a collated batch.
        score: of a network on real test samples; larger is better.
        metric: what the score is called.
        epochs: of each training.
        batch_size: samples per gradient step.
        learning_rate: of Adam, at its start; it falls to 0 along a cosine.
        loader: class of the loader; `tio.SubjectsLoader` for Subjects.
    """

    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Any], Tensor]
    score: Callable[[nn.Module], float]
    metric: str
    epochs: int
    batch_size: int
    learning_rate: float
    loader: Callable[..., Any] = DataLoader


@dataclass(frozen=True, slots=True)
class Outcome:
    """One training: what the loop got in its last epoch, and the score.

    Attributes:
        real: real samples.
        repeated: real samples once more.
        synthetic: synthetic ones.
        score: on real test samples.
    """

    real: int
    repeated: int
    synthetic: int
    score: float


def standard_arms(
    real: Any,
    shards: SyntheticSource,
    pool: SyntheticSource,
    count: int,
    transform: Callable[[Any], Any],
    *,
    fields: Sequence[str] | None = None,
    match: str | Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> list[Arm]:
    """The six ways: real, repeated, TorchIO, shards, pool, shards and TorchIO; `count` samples are added to an epoch.

    Args:
        real: the real training samples.
        shards: rendered samples.
        pool: the same model's samples, renewed from epoch to epoch.
        count: how many samples are added.
        transform: the TorchIO transform; it acts on real and added samples alike.
        fields: as in `SyntheticMixDataset`.
        match: as in `SyntheticMixDataset`.
        seed: of the mix.
    """

    def extended(source: Any, number: int = count, chosen: Callable[[Any], Any] | None = None) -> SyntheticMixDataset:
        return SyntheticMixDataset(
            real,
            source,
            mode="extend",
            count=number,
            seed=seed,
            fields=fields,
            match=match,
            transform=chosen,
            provenance=True,
        )

    return [
        Arm(REAL, extended(real, 0), "nothing"),
        Arm(REPEATED, extended(real), "repeated"),
        Arm(TORCHIO, extended(real, chosen=transform), "repeated"),
        Arm(SHARDS, extended(shards), "synthetic"),
        Arm(POOL, extended(pool), "synthetic"),
        Arm(BOTH, extended(shards, chosen=transform), "synthetic"),
    ]


def compare(
    arms: Iterable[Arm], job: Job, seeds: Sequence[int], console: Console, title: str
) -> dict[str, list[Outcome]]:
    """Trains a network per arm and seed; seed k starts all arms from the same weights and shuffles."""
    runs = [(arm, seed) for arm in arms for seed in seeds]
    results: dict[str, list[Outcome]] = {}
    for arm, seed in track(runs, title, console=console):
        results.setdefault(arm.name, []).append(train(arm, job, seed))
    return results


def train(arm: Arm, job: Job, seed: int) -> Outcome:
    """Trains a new network on an arm and scores it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = job.build()
    optimizer = torch.optim.Adam(model.parameters(), job.learning_rate)
    shuffle = torch.Generator().manual_seed(seed)
    loader = job.loader(arm.dataset, batch_size=job.batch_size, shuffle=True, generator=shuffle)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs * len(loader))
    real = added = 0
    for epoch in range(job.epochs):
        arm.dataset.set_epoch(epoch)
        real = added = 0
        for batch in loader:
            loss = job.loss(model, batch)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            marks = provenance(batch)["is_synthetic"]
            added += int(marks.sum())
            real += int((~marks).sum())
    model.eval()
    with torch.no_grad():
        score = job.score(model)
    return Outcome(real, added if arm.added == "repeated" else 0, added if arm.added == "synthetic" else 0, score)


def provenance(batch: Any) -> Mapping[str, Any]:
    """Where the samples of a batch come from: its last position, or its field of that name."""
    found: Mapping[str, Any] = batch["provenance"] if isinstance(batch, Mapping) else batch[-1]
    return found


def fit_unseen(
    family: str,
    train_data: TrainingData,
    test: TrainingData,
    out: Any,
    options: Options,
    console: Console,
    *,
    held_out: TrainingData | None = None,
    rotate: int = 0,
) -> FitResult:
    """`fit`, and a check that nothing of the test data went into the model.

    Raises:
        ConfigurationError: test samples are among those that the model was trained on.
    """
    result = train_generator(
        family,
        train_data,
        out,
        options,
        held_out=held_out,
        device="cpu",
        progress=console.is_terminal,
        rotate=rotate,
    )
    check_unseen(result.synthesizer.trained_on, test)
    console.print(
        f"Generator: {family}, {result.steps} steps on {len(train_data)} real samples, {result.seconds:.0f} s. "
        f"Distance to real ones {result.distance:.2f} (training images {result.floor:.2f}, noise {result.noise:.2f}); "
        f"copies {result.copied:.0%} (chance {result.copied_reference:.0%}).",
        highlight=False,
    )
    return result


def check_unseen(trained_on: Mapping[str, Any] | None, test: TrainingData) -> None:
    """Checks that a generator saw no test sample.

    Raises:
        ConfigurationError: it did, or nobody knows.
    """
    if trained_on is None:
        raise ConfigurationError(
            "`trained_on` must say what the generator saw, got None. Its test score would prove nothing. Train it with "
            "`fit`."
        )
    leaked = sorted(set(trained_on["samples"]) & set(test.ids))
    if leaked:
        raise ConfigurationError(
            f"`test` must hold nothing that the generator was trained on, got {len(leaked)} such samples, "
            f"{leaked[0]!r} first. The scores would be too good. Train it on the training split."
        )


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for one value)."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
