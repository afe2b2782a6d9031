"""The study ``few-labels``: few labelled digits here, many unlabelled ones at a site whose images may not leave it.

The site labels its images by a classifier of the few labelled ones, trains a conditional generator on those that it is
sure of, and hands out generated images alone. Controls see the few labelled images only; what pseudo-labels would reach
if the images could be moved is shown for comparison, and true labels for them are the oracle.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.conditions.labels import ClassLabels
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.samples.random_state import random_state_restored
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.shards.render.render import render_shards
from torchgenaug.study.arms import Arm, mixed, oracle, real_repeated, real_transformed
from torchgenaug.study.classification import Classification
from torchgenaug.study.controls import pseudo_labelled
from torchgenaug.study.elastic import BatchElastic
from torchgenaug.study.extent import Extent
from torchgenaug.study.generators import alone, train_generator
from torchgenaug.study.real_samples import RealSamples
from torchgenaug.study.splits import Split
from torchgenaug.study.study import Study
from torchgenaug.study.transforms import BatchAffine

_FIELDS = ("image", "label")


@dataclass(frozen=True)
class FewLabels:
    """Settings of the study.

    Attributes:
        data: 2D images with classes, as `load_data` reads them; all but the labelled ones count as unlabelled.
        per_class: labelled images of each class.
        unlabelled: how many further images the other site has.
        confidence: least probability of a pseudo-label.
        generator_steps: training steps of acgan.
        generated: images that it hands out, classes balanced.
        steps: optimizer steps of the classifier.
        seeds: of the classifier.
        lengths: see `Extent`.
    """

    data: str = "digits"
    per_class: int = 2
    unlabelled: int = 2500
    confidence: float = 0.9
    generator_steps: int = 2000
    generated: int = 2000
    steps: int = 300
    seeds: int = 5
    lengths: tuple[int, ...] = (1,)

    def build(self, out: Path, name: str) -> Study:
        """The study; its generator is trained in `out` when it is first needed."""
        everything = load_data(self.data)
        rest, test = everything.split(0.15, seed=0)
        rest, validation = rest.split(0.15, seed=1)
        labelled = rest.limit(self.per_class, seed=0)
        chosen = set(labelled.ids)
        others = [row for row, each in enumerate(rest.ids) if each not in chosen]
        if not 1 <= self.unlabelled <= len(others):
            raise ConfigurationError(
                f"`unlabelled` must be between 1 and {len(others)}, how many images are left, got {self.unlabelled}."
            )
        site = rest.select([others[k * len(others) // self.unlabelled] for k in range(self.unlabelled)])
        split = Split("all", RealSamples(labelled), RealSamples(validation), RealSamples(test))
        unlabelled = _Unlabelled(RealSamples(site))
        task = Classification(everything.num_classes or 0, everything.image_shape[0])
        affine = BatchAffine()

        @functools.cache
        def generated() -> Any:
            return self._generate(split, site, task, out / "generators" / "acgan")

        pseudo = pseudo_labelled(
            lambda split: unlabelled,
            task.train,
            task.probabilities,
            self.steps,
            confidence=self.confidence,
            transform=affine,
            name="pseudo-labels, affine (needs the images)",
        )
        arms: list[Arm] = [
            real_repeated("labelled, repeated"),
            real_transformed(affine, "labelled, affine"),
            real_transformed(BatchElastic(), "labelled, affine and elastic"),
            mixed(lambda split: generated(), 0.5, fields=_FIELDS, transform=affine, name="acgan 50%, affine"),
            mixed(lambda split: generated(), 1.0, fields=_FIELDS, transform=affine, name="acgan only, affine"),
            replace(pseudo, role="reference"),
            oracle(lambda split: RealSamples(site), affine, "oracle: true labels, affine"),
        ]
        return Study(
            split,
            arms,
            task.train,
            task.measures,
            steps=self.steps,
            seeds=self.seeds,
            metric="accuracy",
            name=name,
            extent=Extent(lengths=self.lengths),
        )

    def _generate(self, split: Split, site: TrainingData, task: Classification, folder: Path) -> Any:
        with alone(folder):
            fitted = train_generator(
                "acgan",
                self._labelled_by_network(split, site, task),
                folder / "model",
                Options(condition="label", steps=self.generator_steps),
                device="cpu",
            )
            sequence = SyntheticSequence(fitted.synthesizer, ClassLabels(task.num_classes))
            return render_shards(sequence, folder / "shards", self.generated, batch_size=50, progress=False)

    def _labelled_by_network(self, split: Split, site: TrainingData, task: Classification) -> TrainingData:
        """The site's images of which a classifier of the labelled ones is sure, with its labels."""
        control: Callable[[Split, int], Any] = real_transformed(BatchAffine()).build
        with random_state_restored():
            torch.manual_seed(0)
            network = task.train(control(split, 0), 0, self.steps)
            probabilities = task.probabilities(network, RealSamples(site))
        certain, labels = probabilities.max(1)
        rows = (certain >= self.confidence).nonzero().flatten().tolist()
        missing = sorted(set(range(task.num_classes)) - set(labels[rows].tolist()))
        if missing:
            raise ConfigurationError(
                f"`confidence` must leave images of every class, got {self.confidence} and none of {missing}. The "
                "generator could not learn these classes. Lower it."
            )
        sure = site.select(rows)
        images = torch.stack([sure.samples[k]["image"] for k in range(len(sure))])
        return replace(sure, samples=TensorSamples({"image": images, "label": labels[rows]}))


class _Unlabelled(Dataset[dict[str, Tensor]]):
    """Samples without their labels."""

    def __init__(self, data: RealSamples) -> None:
        self.labelled, self.ids = data, data.ids

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        # A place is kept for the label, which every batch has; -1 is no class.
        return {"image": self.labelled[index]["image"], "label": torch.tensor(-1)}
