"""Training reports: a grid of samples, the loss curve, and the losses as CSV."""

from __future__ import annotations

import csv
import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import CollapseWarning
from torchgenaug.pictures import contact_sheet
from torchgenaug.recipes.data.derived import derived
from torchgenaug.recipes.data.training_data import TrainingData, spread_rows
from torchgenaug.recipes.data_fingerprint import data_fingerprint
from torchgenaug.recipes.judge import CopyTest, sliced_wasserstein, thumbnails
from torchgenaug.recipes.pairs import PairJudge
from torchgenaug.seeding import permutation
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import Batch

NUM_JUDGED, _NUM_SHOWN = 64, 16
_LEAST_JUDGED = 2  # images; one has no other that it could be compared with
_MOST_COMPARED = 20_000  # real images that samples are compared with, one by one, to find copies


@dataclass
class Judge:
    """Compares samples with real ones; the real side is prepared once.

    Attributes:
        num_judged: how many samples and held-out images are compared.
        floor: distance of training images to held-out ones: no generator of these data should do better.
        noise: distance of uniform noise to held-out images.
        reference: fraction of samples that count as copies of training images by chance.
    """

    data: TrainingData
    held_out: TrainingData
    condition: str | Sequence[str] | None
    num_judged: int = field(init=False)
    floor: float = field(init=False)
    noise: float = field(init=False)
    reference: float = field(init=False)
    _conditions: HeldOutConditions | None = field(init=False, default=None)
    _pairs: PairJudge | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._real = _images(self.held_out, NUM_JUDGED)
        self.num_judged = min(NUM_JUDGED, len(self._real))
        low, high = self.data.fields["image"].value_range or (0.0, 1.0)
        uniform = torch.rand(self._real.shape, generator=torch.Generator().manual_seed(0)) * (high - low) + low
        self.floor = sliced_wasserstein(_images(self.data, NUM_JUDGED), self._real)
        self.noise = sliced_wasserstein(uniform, self._real)
        self._copies = CopyTest(_thumbnails(self.data), _thumbnails(self.held_out), _patients(self.held_out))
        self.reference = self._copies.expected

    def samples(self, synthesizer: Synthesizer) -> Batch:
        """`NUM_JUDGED` samples of ids 0, 1, …; conditions are those of held-out samples.

        Warns:
            CollapseWarning: blank images. A model may make them early in training, so they do not end it.
        """
        if self._conditions is None:
            self._conditions = HeldOutConditions(self.held_out, self.condition)
        sequence = SyntheticSequence(synthesizer, self._conditions, screens=())
        parts = [sequence.batch(list(range(first, first + 16))) for first in range(0, NUM_JUDGED, 16)]
        samples = {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}
        flat = samples["image"].flatten(1)
        blank = int((flat.amax(1) == flat.amin(1)).sum())
        if blank:
            warnings.warn(
                f"{blank} of {NUM_JUDGED} samples are blank, one value throughout: the model has not learned yet, or "
                "has collapsed. A render refuses them.",
                CollapseWarning,
                stacklevel=2,
            )
        return samples

    def distance(self, samples: Batch) -> float:
        """Sliced Wasserstein distance of the samples' images to held-out ones."""
        return sliced_wasserstein(samples["image"], self._real)

    def pairs(self, samples: Batch) -> dict[str, float]:
        """PSNR and SSIM of the samples against the images of their sources; empty without the condition ``source``.

        See `PairJudge.measures`. Data whose sources show something else than their images have values like those of
        the mean training image.
        """
        if "source" not in ((self.condition,) if isinstance(self.condition, str) else self.condition or ()):
            return {}
        if self._pairs is None:
            truth = HeldOutConditions(self.held_out, "image")(range(len(samples["image"])))["image"]
            self._pairs = PairJudge(self.data, truth)
        return self._pairs.measures(samples["image"])

    def copied(self, samples: Batch) -> tuple[float, bool]:
        """Fraction of the samples that copy training images, and whether that is too much.

        NaN where the held-out images cannot tell: see `CopyTest.comparable`.
        """
        fraction = self._copies.fraction(samples["image"])
        return fraction, self._copies.alarming(fraction, len(samples["image"]))


def judged_part(held_out: TrainingData, given: Sequence[str]) -> TrainingData:
    """What a model that is given the fields `given` is judged by: with classes, the held-out images that have one.

    Warns:
        UserWarning: fewer than two have one. Then all are compared with samples of each class in turn.
    """
    if "label" not in given:
        return held_out
    labelled = held_out.labelled()
    if len(labelled) >= _LEAST_JUDGED:
        return labelled
    classes = held_out.num_classes or 1
    warnings.warn(
        f"{len(labelled)} of {len(held_out)} held-out images have a label: all of them are compared with samples of "
        "each class in turn, as if the classes were equally frequent. Distances may be too large. Give held_out= with "
        "labels.",
        stacklevel=2,
    )
    return derived(held_out, {}, partial(_of_class_in_turn, classes=classes))


def _of_class_in_turn(index: int, sample: Mapping[str, Tensor], *, classes: int) -> dict[str, Tensor]:
    return {**sample, "label": torch.tensor(index % classes)}


class HeldOutConditions:
    """Condition k is that of the k-th held-out sample of a fixed shuffle, round and round; or there is none.

    Args:
        held_out: where they are from.
        condition: the field or fields; None or an empty sequence: none.
    """

    def __init__(self, held_out: TrainingData, condition: str | Sequence[str] | None) -> None:
        names = () if condition is None else (condition,) if isinstance(condition, str) else tuple(condition)
        self.held_out, self.names = held_out, names
        known = f"{','.join(names) or None} {data_fingerprint(held_out)}"
        self.fingerprint = hashlib.sha256(known.encode()).hexdigest()
        self._order = permutation(0, len(held_out)).tolist()
        self.fields = {name: held_out.fields[name] for name in names}

    def __call__(self, ids: Sequence[int]) -> Batch:
        """The conditions of samples `ids`."""
        if not self.names:
            return {}
        rows = [self.held_out.samples[self._order[k % len(self._order)]] for k in ids]
        return {name: torch.stack([row[name] for row in rows]) for name in self.names}


def draw_samples(samples: Batch, synthesizer: Synthesizer, data: TrainingData, path: Path, rotate: int) -> None:
    """Writes the first 16 samples as one picture."""
    fields = {name: data.fields.get(name, synthesizer.fields.get(name)) for name in samples}
    shown = [{name: values[k] for name, values in samples.items()} for k in range(_NUM_SHOWN)]
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(shown, {name: spec for name, spec in fields.items() if spec is not None}, path, rotate=rotate)


def write_history(history: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Writes ``losses.csv`` and, where matplotlib is installed, ``losses.png``: one row, one point per report."""
    names = list(dict.fromkeys(name for row in history for name in row))
    draft = folder / f".losses.{os.getpid()}.csv"
    with draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(history)
    draft.replace(folder / "losses.csv")
    _draw_curves(history, [name for name in names if name != "step"], folder / "losses.png")


def _draw_curves(history: Sequence[Mapping[str, float]], names: Sequence[str], path: Path) -> None:
    try:
        # The object interface: pyplot would choose a backend for the whole process.
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 2.2 * len(names)), layout="constrained")
    panels: Any = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=True):
        points = [(row["step"], row[name]) for row in history if name in row]
        panel.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else None)
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("step")
    figure.savefig(path, dpi=90)


def _thumbnails(data: TrainingData) -> Tensor:
    """Small images of all samples, or of `_MOST_COMPARED` spread evenly over them, for the copy test."""
    return torch.cat([thumbnails(data.samples[row]["image"][None]) for row in spread_rows(len(data), _MOST_COMPARED)])


def _patients(data: TrainingData) -> list[str]:
    """Whose the images of `_thumbnails` are; empty where unknown."""
    return [data.patients[row] for row in spread_rows(len(data), _MOST_COMPARED)] if data.patients else []


def _images(data: TrainingData, count: int) -> Tensor:
    """At most `count` images, spread evenly over the data."""
    return torch.stack([data.samples[row]["image"] for row in spread_rows(len(data), count)])
