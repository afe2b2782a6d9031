"""Segmentation of 3D brain volumes: real tissue masks are deformed, and a volume is made for each.

Shows a generator of volumes (SPADE in 3D, conditioned on the mask), new masks for free from `RealFields` with a TorchIO
transform, shards and a pool of volumes, and a small 3D segmenter of CSF, grey and white matter. The score is Dice on
volumes that nothing was trained on.

It takes 13 minutes of one core.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug import RealFields, SyntheticPool, SyntheticSequence
from torchgenaug.recipes import Options, load_data
from torchgenaug.shards import render_shards
from torchgenaug.tasks.comparison import Job, compare, fit_unseen, standard_arms
from torchgenaug.tasks.effort import Effort
from torchgenaug.tasks.report import Section, draw, show
from torchgenaug.tasks.segmentation import dice_on, segmentation_loss

FAMILY = "spade"
_REAL, _SYNTHETIC, _STEPS, _SEEDS, _EPOCHS = 4, 12, 400, 3, 30
_RENDER_BATCH = 4


class VolumeSegmenter(nn.Module):
    """A two-level U-Net with 0.02 M parameters: (batch, 1, *spatial) in [0, 1] → (batch, 4, *spatial) logits."""

    def __init__(self, num_classes: int = 4, width: int = 8) -> None:
        super().__init__()
        self.fine, self.coarse = _block(1, width), _block(width, 2 * width)
        self.merge, self.head = _block(3 * width, width), nn.Conv3d(width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Tissue logits."""
        fine = self.fine(image)
        coarse = functional.interpolate(self.coarse(functional.max_pool3d(fine, 2)), scale_factor=2.0)
        logits: Tensor = self.head(self.merge(torch.cat([fine, coarse], 1)))
        return logits


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(channels_in, channels_out, 3, padding=1), nn.GroupNorm(4, channels_out), nn.SiLU())


def torchio_transform() -> Any:
    """Turns, scales, shifts, gamma and noise, in 3D."""
    import torchio as tio

    return tio.Compose(
        [
            tio.RandomAffine(scales=0.1, degrees=10, translation=2),
            tio.RandomGamma(log_gamma=0.2),
            tio.RandomNoise(std=(0, 0.03)),
        ]
    )


def mask_transform() -> Any:
    """What makes new masks of real ones: turned and bent."""
    import torchio as tio

    return tio.Compose(
        [
            tio.RandomFlip(axes=("LR",)),
            tio.RandomAffine(scales=0.12, degrees=8, translation=1),
            tio.RandomElasticDeformation(num_control_points=6, max_displacement=3),
        ]
    )


def run(out: Path, effort: Effort, console: Console) -> list[Section]:
    """Runs the task; see `run_task`."""
    everything, test = load_data("brain-3d"), load_data("brain-3d", split="held_out")
    few = everything.limit(_REAL)
    options = Options(condition="mask", steps=effort.steps or _STEPS, width=8, batch_size=2)
    fitted = fit_unseen(FAMILY, few, test, out / "generator", options, console, rotate=1)
    sequence = SyntheticSequence(fitted.synthesizer, RealFields(few.samples, "mask", transform=mask_transform()))
    count = effort.synthetic or _SYNTHETIC
    shards = render_shards(sequence, out / "shards", count, batch_size=_RENDER_BATCH)
    job = Job(
        build=VolumeSegmenter,
        loss=lambda model, batch: segmentation_loss(model, batch["image"], batch["mask"]),
        score=dice_on(test),
        metric="Dice",
        epochs=effort.epochs or _EPOCHS,
        batch_size=2,
        learning_rate=1e-2,
    )
    with closing(SyntheticPool(sequence, count, refresh=0.25, batch_size=_RENDER_BATCH)) as pool:
        arms = standard_arms(few.samples, shards, pool, count, torchio_transform(), fields=("image", "mask"))
        outcomes = compare(arms, job, range(effort.seeds or _SEEDS), console, "Training segmenters")
    section = Section(
        title=f"Brain volumes, {len(few)} real",
        metric=job.metric,
        outcomes=outcomes,
        test_ids=test.ids,
        trained_on=few.ids,
        picture=draw(few, shards.read(np.arange(3)), ("image", "mask"), out / "volumes.png", rotate=1, shown=3),
        caution="one brain: training and test volumes are deformations of the same template. One generator: the spread "
        "is over starts of the segmenter.",
    )
    show(section, console)
    return [section]
