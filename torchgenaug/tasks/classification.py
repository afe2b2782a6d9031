"""Few-shot classification of handwritten digits: ten real images per class, and what a generator makes of them.

Shows tuple samples ``(image, label)``, a class-conditional generator that was trained on the few images only, shards
and a pool of balanced classes, and ``match="label"``. For every seed the few images are drawn anew, with a generator of
their own; the score is the accuracy on 750 real digits that nothing was trained on.

It takes 8 minutes of one core.
"""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from torchgenaug import ClassLabels, SyntheticPool, SyntheticSequence
from torchgenaug.recipes import Options, TrainingData, load_data
from torchgenaug.shards import render_shards
from torchgenaug.tasks.comparison import Job, Outcome, compare, fit_unseen, standard_arms
from torchgenaug.tasks.effort import Effort
from torchgenaug.tasks.report import Section, draw, show

FAMILY = "acgan"
_PER_CLASS, _SYNTHETIC, _STEPS, _SEEDS, _EPOCHS = 10, 200, 500, 3, 15
_RENDER_BATCH = 50


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Samples as most classification data sets hand them out: ``(image, label)``."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.data.samples[index]
        return sample["image"], sample["label"]


class Classifier(nn.Module):
    """Three convolutions, 0.02 M parameters: (batch, 1, 32, 32) in [0, 1] → (batch, 10) logits."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        widths = (1, 16, 32, 48)
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in itertools.pairwise(widths)
        ]
        self.layers = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * 48, num_classes))

    def forward(self, image: Tensor) -> Tensor:
        """Class logits."""
        logits: Tensor = self.layers(image)
        return logits


def torchio_transform() -> Any:
    """Turns, scales, shifts and noise, as usual for small images."""
    import torchio as tio

    return tio.Compose(
        [
            tio.RandomAffine(
                scales=(0.9, 1.1, 0.9, 1.1, 1, 1), degrees=(0, 0, 0, 0, -12, 12), translation=(-2, 2, -2, 2, 0, 0)
            ),
            tio.RandomNoise(std=(0, 0.05)),
        ]
    )


def run(out: Path, effort: Effort, console: Console) -> list[Section]:
    """Runs the task; see `run_task`."""
    everything, test = load_data("digits"), load_data("digits", split="test")
    images = torch.stack([test.samples[k]["image"] for k in range(len(test))])
    labels = torch.as_tensor(test.labels())
    job = Job(
        build=Classifier,
        loss=lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]),
        score=lambda model: (model(images).argmax(1) == labels).float().mean().item(),
        metric="accuracy",
        epochs=effort.epochs or _EPOCHS,
        batch_size=32,
        learning_rate=3e-3,
    )
    count, outcomes, seen, picture = effort.synthetic or _SYNTHETIC, dict[str, list[Outcome]](), set[str](), out
    for seed in range(effort.seeds or _SEEDS):
        few = everything.limit(_PER_CLASS, seed)
        options = Options(condition="label", steps=effort.steps or _STEPS)
        fitted = fit_unseen(
            FAMILY,
            few,
            test,
            out / f"generator-{seed}",
            options,
            console,
            held_out=load_data("digits", split="held_out"),
        )
        seen |= set(fitted.synthesizer.trained_on["samples"])
        sequence = SyntheticSequence(fitted.synthesizer, ClassLabels(10), seed=seed)
        shards = render_shards(sequence, out / f"shards-{seed}", count, batch_size=_RENDER_BATCH)
        with closing(SyntheticPool(sequence, count, refresh=0.25, batch_size=_RENDER_BATCH)) as pool:
            arms = standard_arms(
                Pairs(few),
                shards,
                pool,
                count,
                torchio_transform(),
                fields=("image", "label"),
                match="label",
                seed=seed,
            )
            for name, each in compare(arms, job, [seed], console, f"Training, draw {seed}").items():
                outcomes.setdefault(name, []).extend(each)
        if seed == 0:
            picture = draw(
                few, shards.read(np.arange(min(20, count))), ("image", "label"), out / "digits.png", shown=20
            )
    section = Section(
        title=f"Digits, {_PER_CLASS} real images per class",
        metric=job.metric,
        outcomes=outcomes,
        test_ids=test.ids,
        trained_on=sorted(seen),
        picture=picture,
        caution="tiny images, three draws; the spread is over draws of the few images, generators and starts.",
    )
    show(section, console)
    return [section]
