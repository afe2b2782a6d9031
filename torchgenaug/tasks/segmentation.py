"""Segmentation from few real samples, with image and mask of every synthetic sample belonging together.

Two data sets, two ways to such pairs, two sample types:

- cell nuclei, dicts: one diffusion model makes image and mask together (``--with-mask``);
- brain tissue, `tio.Subject`s: real masks are deformed by TorchIO (new masks for free), and an image is made for each.

The generators are trained on the few real samples only. The score is Dice on real tiles and slices from another place.

It takes 24 minutes of one core; `--steps 300 --seeds 2` is quicker and worse.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from torchgenaug import RealFields, SyntheticPool, SyntheticSequence
from torchgenaug.demo.segmenter import Segmenter
from torchgenaug.recipes import Options, TrainingData, load_data
from torchgenaug.shards import render_shards
from torchgenaug.tasks.comparison import Job, compare, fit_unseen, standard_arms
from torchgenaug.tasks.effort import Effort
from torchgenaug.tasks.report import Section, draw, show

_SEEDS, _SYNTHETIC = 3, 48
_NUCLEI, _NUCLEI_FAMILY, _NUCLEI_STEPS, _NUCLEI_EPOCHS = 24, "ddpm", 600, 20
_SLICES_PER_LEVEL, _BRAIN_FAMILY, _BRAIN_STEPS, _BRAIN_EPOCHS = 4, "spade", 800, 40
_RENDER_BATCH = 16


class Subjects(Dataset[Any]):
    """Samples as TorchIO's users have them: a Subject of image and mask."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        import torchio as tio

        sample = self.data.samples[index]
        image, mask = (value[..., None] if value.ndim == 3 else value for value in (sample["image"], sample["mask"]))
        return tio.Subject(image=tio.ScalarImage(tensor=image), mask=tio.LabelMap(tensor=mask))


def torchio_transform() -> Any:
    """Turns, scales, shifts, gamma and noise."""
    import torchio as tio

    return tio.Compose(
        [
            tio.RandomAffine(
                scales=(0.9, 1.1, 0.9, 1.1, 1, 1), degrees=(0, 0, 0, 0, -15, 15), translation=(-4, 4, -4, 4, 0, 0)
            ),
            tio.RandomGamma(log_gamma=0.2),
            tio.RandomNoise(std=(0, 0.03)),
        ]
    )


def mask_transform() -> Any:
    """What makes new brains of real ones: mirrored, turned, bent."""
    import torchio as tio

    return tio.Compose(
        [
            tio.RandomFlip(axes=(0,)),
            tio.RandomAffine(
                scales=(0.9, 1.1, 0.9, 1.1, 1, 1), degrees=(0, 0, 0, 0, -10, 10), translation=(-3, 3, -3, 3, 0, 0)
            ),
            tio.RandomElasticDeformation(num_control_points=(7, 7, 5), max_displacement=(4, 4, 0)),
        ]
    )


def segmentation_loss(model: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the classes of `mask` (batch, 1, *spatial)."""
    return functional.cross_entropy(model(image), mask[:, 0].long())


def dice_on(test: TrainingData, inputs: Callable[[Any], Tensor] | None = None) -> Callable[[nn.Module], float]:
    """The score of a network: mean Dice over the classes but background, over all real test samples together.

    Args:
        test: the real samples.
        inputs: what the network gets of a sample; default: its image.
    """
    samples = [test.samples[k] for k in range(len(test))]
    images = torch.stack([inputs(each) if inputs else each["image"] for each in samples])
    masks = torch.stack([each["mask"] for each in samples])[:, 0]

    def score(model: nn.Module) -> float:
        guess = torch.cat([model(part).argmax(1) for part in torch.split(images, 16)])
        scores = []
        for value in range(1, test.num_mask_classes or 2):
            a, b = guess == value, masks == value
            scores.append(2 * (a & b).sum().item() / max(1, (a.sum() + b.sum()).item()))
        return sum(scores) / len(scores)

    return score


def run(out: Path, effort: Effort, console: Console) -> list[Section]:
    """Runs the task on both data sets; see `run_task`."""
    return [_nuclei(out, effort, console), _brain(out, effort, console)]


def _nuclei(out: Path, effort: Effort, console: Console) -> Section:
    everything, test = load_data("nuclei"), load_data("nuclei", split="held_out")
    few = everything.limit(_NUCLEI)
    options = Options(with_mask=True, steps=effort.steps or _NUCLEI_STEPS)
    fitted = fit_unseen(_NUCLEI_FAMILY, few, test, out / "nuclei-generator", options, console)
    job = Job(
        build=lambda: Segmenter(num_classes=2),
        loss=lambda model, batch: segmentation_loss(model, batch["image"], batch["mask"]),
        score=dice_on(test),
        metric="Dice",
        epochs=effort.epochs or _NUCLEI_EPOCHS,
        batch_size=8,
        learning_rate=3e-3,
    )
    return _compared(
        f"Cell nuclei, {len(few)} real tiles",
        (few, few.samples, test),
        SyntheticSequence(fitted.synthesizer),
        job,
        out / "nuclei",
        effort,
        console,
        caution="one field of one dish; the test tiles are from its lower part. One draw of the real tiles and one "
        "generator: the spread is over starts of the segmenter.",
    )


def _brain(out: Path, effort: Effort, console: Console) -> Section:
    import torchio as tio

    everything, test = load_data("brain"), load_data("brain", split="held_out")
    few = everything.limit(_SLICES_PER_LEVEL)
    options = Options(condition="mask", steps=effort.steps or _BRAIN_STEPS)
    fitted = fit_unseen(_BRAIN_FAMILY, few, test, out / "brain-generator", options, console, rotate=1)
    masks = RealFields(few.samples, "mask", transform=mask_transform())
    job = Job(
        build=Segmenter,
        loss=lambda model, batch: segmentation_loss(
            model, batch["image"]["data"][..., 0], batch["mask"]["data"][..., 0]
        ),
        score=dice_on(test),
        metric="Dice",
        epochs=effort.epochs or _BRAIN_EPOCHS,
        batch_size=8,
        learning_rate=3e-3,
        loader=tio.SubjectsLoader,
    )
    return _compared(
        f"Brain tissue, {len(few)} real slices",
        (few, Subjects(few), test),
        SyntheticSequence(fitted.synthesizer, masks),
        job,
        out / "brain",
        effort,
        console,
        rotate=1,
        caution="one brain, so the test slices are of the same brain, from between the training slices. One generator: "
        "the spread is over starts of the segmenter.",
    )


def _compared(
    title: str,
    data: tuple[TrainingData, Any, TrainingData],
    sequence: SyntheticSequence,
    job: Job,
    stem: Path,
    effort: Effort,
    console: Console,
    *,
    caution: str,
    rotate: int = 0,
) -> Section:
    """Renders, fills a pool, trains on every mix, draws."""
    few, real, test = data
    count = effort.synthetic or _SYNTHETIC
    shards = render_shards(sequence, stem.with_name(f"{stem.name}-shards"), count, batch_size=_RENDER_BATCH)
    with closing(SyntheticPool(sequence, count, refresh=0.125, batch_size=_RENDER_BATCH)) as pool:
        arms = standard_arms(real, shards, pool, count, torchio_transform(), fields=("image", "mask"))
        outcomes = compare(arms, job, range(effort.seeds or _SEEDS), console, "Training segmenters")
    section = Section(
        title=title,
        metric=job.metric,
        outcomes=outcomes,
        test_ids=test.ids,
        trained_on=few.ids,
        picture=draw(
            few,
            shards.read(np.arange(min(12, count))),
            ("image", "mask"),
            stem.with_suffix(".png"),
            rotate=rotate,
            shown=12,
        ),
        caution=caution,
    )
    show(section, console)
    return section
