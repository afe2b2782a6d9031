"""A modality that most real samples lack is translated from one that they have, and a network that needs it is trained.

- nuclei: oblique light → Hoechst fluorescence, both real;
- brain: T1 → T2, both simulated from the tissue maps of one brain.

The translator (pix2pix) is trained on the few complete pairs. `FillMissing` then completes the other samples: made when
they are read, rendered into shards, or held in a pool. A segmenter that takes the filled modality alone is trained on
them, and scored by Dice on real test samples; so is one that had the true modality of all of them, the most that
filling can give. The translation itself is measured on real test pairs.

It takes 20 minutes of one core.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from torchgenaug import FillMissing, SyntheticMixDataset, SyntheticPool, SyntheticSequence
from torchgenaug.demo.segmenter import Segmenter
from torchgenaug.recipes import Options, TrainingData, load_data
from torchgenaug.recipes.report import HeldOutConditions
from torchgenaug.seeding import permutation
from torchgenaug.shards import render_shards
from torchgenaug.tasks.comparison import REAL, REPEATED, TORCHIO, Arm, Job, compare, fit_unseen
from torchgenaug.tasks.effort import Effort
from torchgenaug.tasks.report import Section, draw, show
from torchgenaug.tasks.segmentation import dice_on, segmentation_loss, torchio_transform

FAMILY = "pix2pix"
_COMPLETE, _LACKING, _STEPS, _SEEDS, _EPOCHS = 16, 48, 600, 3, 30
_RENDER_BATCH = 16
FILLED, FILLED_SHARDS, FILLED_POOL = "filled, as read", "filled, shards", "filled, pool"
FILLED_TORCHIO, TRUE = "filled + TorchIO", "nothing missing"


class PartlyMissing(Dataset[Mapping[str, Tensor]]):
    """Samples of which those after the first `complete` lack ``image``.

    Args:
        data: complete samples.
        complete: how many stay so.
    """

    def __init__(self, data: TrainingData, complete: int) -> None:
        self.data, self.complete = data, complete

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        sample = self.data.samples[index]
        return sample if index < self.complete else {name: sample[name] for name in sample if name != "image"}


def run(out: Path, effort: Effort, console: Console) -> list[Section]:
    """Runs the task on both data sets; see `run_task`."""
    nuclei = (
        "nuclei",
        "Hoechst from oblique light",
        0,
        "one field of one dish; the test tiles are from its lower part.",
    )
    brain = ("brain-t1-t2", "T2 from T1, simulated", 1, "simulated from one brain: nearly a function of the T1 image.")
    return [_translated(*each, out, effort, console) for each in (nuclei, brain)]


def _translated(
    name: str, title: str, rotate: int, caution: str, out: Path, effort: Effort, console: Console
) -> Section:
    test = load_data(name, split="held_out")
    lacking = effort.synthetic or _LACKING
    real = load_data(name).limit(_COMPLETE + lacking)
    # A sample of each region is complete: `limit` sorts, so every other so many are chosen, not the first ones.
    step = len(real) // _COMPLETE
    first = list(range(0, step * _COMPLETE, step))
    real = real.select(first + [row for row in range(len(real)) if row not in set(first)])
    complete = real.select(range(_COMPLETE))
    options = Options(condition="source", steps=effort.steps or _STEPS)
    fitted = fit_unseen(FAMILY, complete, test, out / f"{name}-generator", options, console, rotate=rotate)
    quality = translation_quality(fitted.synthesizer, complete, test)
    console.print(
        f"Translation of {len(test)} real test pairs: PSNR {quality['psnr_db']:.1f} dB (mean training image "
        f"{quality['psnr_mean_image_db']:.1f}), SSIM {quality['ssim']:.2f} (mean training image "
        f"{quality['ssim_mean_image']:.2f}).",
        highlight=False,
    )
    partly = PartlyMissing(real, _COMPLETE)
    fields = {"source": "source", "target": "image", "provenance": True}
    filled = FillMissing(partly, fitted.synthesizer, **fields)  # type: ignore[arg-type]
    if filled.sequence is None:
        raise RuntimeError("A filled data set of a synthesizer has a sequence.")
    shards = render_shards(filled.sequence, out / f"{name}-shards", lacking, batch_size=_RENDER_BATCH)
    with closing(SyntheticPool(filled.sequence, lacking, refresh=0, batch_size=_RENDER_BATCH)) as pool:
        rendered = FillMissing(partly, shards, **fields)  # type: ignore[arg-type]
        arms = [
            *_baselines(complete, lacking),
            Arm(FILLED, filled, "synthetic"),
            Arm(FILLED_SHARDS, rendered, "synthetic"),
            Arm(FILLED_POOL, FillMissing(partly, pool, **fields), "synthetic"),  # type: ignore[arg-type]
            Arm(FILLED_TORCHIO, _transformed(rendered), "synthetic"),
            Arm(TRUE, _alone(real.samples), "nothing"),
        ]
        job = Job(
            build=lambda: Segmenter(num_classes=test.num_mask_classes or 2),
            loss=lambda model, batch: segmentation_loss(model, batch["image"], batch["mask"]),
            score=dice_on(test),
            metric="Dice",
            epochs=effort.epochs or _EPOCHS,
            batch_size=8,
            learning_rate=3e-3,
        )
        outcomes = compare(arms, job, range(effort.seeds or _SEEDS), console, "Training segmenters")
    shown = SyntheticSequence(fitted.synthesizer, HeldOutConditions(test, "source"))
    section = Section(
        title=f"{title}, {_COMPLETE} pairs, {lacking} samples filled",
        metric=job.metric,
        outcomes=outcomes,
        test_ids=test.ids,
        trained_on=complete.ids,
        picture=_draw_pairs(test, shown, out / f"{name}.png", rotate),
        caution=f"{caution} One translator: the spread is over starts of the segmenter.",
        quality=quality,
    )
    show(section, console)
    return section


def _baselines(complete: TrainingData, count: int) -> list[Arm]:
    return [
        Arm(REAL, _alone(complete.samples), "nothing"),
        Arm(REPEATED, _alone(complete.samples, count), "repeated"),
        Arm(TORCHIO, _alone(complete.samples, count, torchio_transform()), "repeated"),
    ]


def _alone(samples: Any, repeated: int = 0, transform: Any = None) -> SyntheticMixDataset:
    """Real samples, `repeated` of them once more."""
    return SyntheticMixDataset(
        samples, samples, mode="extend", count=repeated, transform=transform, fields=("image", "mask"), provenance=True
    )


def _transformed(filled: FillMissing) -> SyntheticMixDataset:
    """The filled samples, transformed; they say themselves where they come from."""
    return SyntheticMixDataset(filled, filled, mode="extend", count=0, transform=torchio_transform())


def translation_quality(synthesizer: Any, train: TrainingData, test: TrainingData) -> dict[str, float]:
    """PSNR and SSIM of translated real test samples, beside those of the mean training image.

    Returns:
        ``psnr_db``, ``ssim``, ``psnr_mean_image_db``, ``ssim_mean_image``: means over the samples.
    """
    rows = [test.samples[k] for k in range(len(test))]
    truth, sources = (torch.stack([row[name] for row in rows]) for name in ("image", "source"))
    made = torch.cat(
        [
            synthesizer.synthesize(list(range(k, k + len(part))), {"source": part})["image"]
            for k, part in zip(range(0, len(test), _RENDER_BATCH), torch.split(sources, _RENDER_BATCH), strict=True)
        ]
    )
    mean = torch.stack([train.samples[k]["image"] for k in range(len(train))]).mean(0).expand_as(truth)
    low, high = test.fields["image"].value_range or (0.0, 1.0)
    return {
        "psnr_db": psnr(made, truth, high - low),
        "ssim": ssim(made, truth, high - low),
        "psnr_mean_image_db": psnr(mean, truth, high - low),
        "ssim_mean_image": ssim(mean, truth, high - low),
    }


def psnr(images: Tensor, truth: Tensor, data_range: float) -> float:
    """Mean peak signal-to-noise ratio in dB: 10 log10(range² / mean squared error) of each image."""
    errors = (images - truth).square().flatten(1).mean(1).clamp(min=1e-12)
    return (10 * (math.log10(data_range**2) - errors.log10())).mean().item()


def ssim(images: Tensor, truth: Tensor, data_range: float) -> float:
    """Mean structural similarity of 2D images, in windows of 7 x 7 pixels.

    Wang, Bovik, Sheikh, Simoncelli (2004), "Image quality assessment: from error visibility to structural similarity",
    eq. 13, with their constants and a flat window.
    """

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, 7, 1)

    mean_a, mean_b = mean(images), mean(truth)
    spread_a, spread_b = mean(images.square()) - mean_a.square(), mean(truth.square()) - mean_b.square()
    together = mean(images * truth) - mean_a * mean_b
    one, two = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    likeness = (2 * mean_a * mean_b + one) * (2 * together + two)
    return (likeness / ((mean_a.square() + mean_b.square() + one) * (spread_a + spread_b + two))).mean().item()


def _draw_pairs(test: TrainingData, sequence: SyntheticSequence, path: Path, rotate: int) -> Path:
    """Real test pairs and, below them, the translations of the same sources."""
    rows = permutation(0, len(test))[:6].tolist()  # the order of HeldOutConditions
    return draw(test.select(rows), sequence.batch(list(range(6))), ("source", "image"), path, rotate=rotate, shown=6)
