"""The study ``missing-modality``: a segmenter of T1 and T2, where most training slices have lost their T2.

A translator, trained on the few complete slices, fills in what is missing. Controls use the complete slices alone, the
others with an empty T2, or with what a look-up table or a regression network gives. Both contrasts are simulated; see
`torchgenaug.datasets.brain_contrasts`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgenaug.datasets.brain_contrasts import BrainContrasts
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.embedded import brain_t1_t2
from torchgenaug.recipes.options import Options
from torchgenaug.study.arms import Arm, mixed, oracle, real_repeated, real_transformed
from torchgenaug.study.generators import alone, train_generator
from torchgenaug.study.intensity_maps import apply_intensity_map, fit_intensity_map
from torchgenaug.study.segmentation import Segmentation
from torchgenaug.study.slices import Slices
from torchgenaug.study.splits import Split
from torchgenaug.study.study import Study
from torchgenaug.study.transforms import BatchAffine

_FIELDS, _CLASSES = ("image", "mask"), 5


@dataclass(frozen=True)
class MissingModality:
    """Settings of the study.

    Attributes:
        complete: slices with T1 and T2, for the segmenter and the translator.
        incomplete: slices with T1 alone.
        translator_steps: training steps of pix2pix and of the control regression.
        steps: optimizer steps of the segmenter.
        seeds: of the segmenter.
        batch_size: of the segmenter.
    """

    complete: int = 4
    incomplete: int = 60
    translator_steps: int = 300
    steps: int = 200
    seeds: int = 5
    batch_size: int = 4

    def build(self, out: Path, name: str) -> Study:
        """The study; its translators are trained in `out` when they are first needed."""
        data, held_out = (BrainContrasts(each, lesions=True) for each in ("train", "held_out"))
        total = self.complete + self.incomplete
        if min(self.complete, self.incomplete) < 2 or total > len(data):
            raise ConfigurationError(
                f"`complete` and `incomplete` must be at least 2 each and at most {len(data)} together, got "
                f"{self.complete} and {self.incomplete}. Try 4 and 60."
            )
        chosen = [k * len(data) // total for k in range(total)]
        full = [chosen[k * total // self.complete] for k in range(self.complete)]
        lost = [row for row in chosen if row not in full]
        half = len(held_out) // 2
        split = Split(
            "all",
            _slices(data, full, data.images),
            *(_slices(held_out, list(rows), held_out.images) for rows in (range(half), range(half, len(held_out)))),
        )

        @functools.cache
        def filled(how: str) -> Slices:
            return self._filled(how, data, full, lost, out)

        affine = BatchAffine()

        def arm(how: str, what: str) -> Arm:
            share = len(lost) / total
            return mixed(lambda split: filled(how), share, fields=_FIELDS, transform=affine, name=what)

        def true(split: Split) -> Slices:
            return _slices(data, full + lost, data.images)

        arms = [
            real_repeated("complete slices repeated"),
            real_transformed(affine, "complete slices, affine"),
            replace(arm("nothing", "empty T2, affine"), role="control"),
            replace(arm("table", "T2 by look-up table, affine"), role="control"),
            replace(arm("regression", "T2 by regression, affine"), role="control"),
            arm("pix2pix", "T2 by pix2pix, affine"),
            oracle(true, name="oracle: true T2"),
            oracle(true, affine, "oracle: true T2, affine"),
        ]
        task = Segmentation(_CLASSES, 2, width=8, batch_size=self.batch_size, learning_rate=6e-3)
        return Study(
            split, arms, task.train, task.score, steps=self.steps, seeds=self.seeds, metric="mean Dice", name=name
        )

    def _filled(self, how: str, data: BrainContrasts, full: list[int], lost: list[int], out: Path) -> Slices:
        """The incomplete slices with a T2 from somewhere."""
        sources = data.sources[lost]
        trained_on: Any = None
        if how == "nothing":
            images = torch.zeros_like(sources)
        elif how == "table":
            images = apply_intensity_map(sources, fit_intensity_map(data.sources[full], data.images[full]))
        else:
            folder = out / "generators" / how
            with alone(folder):
                pairs = brain_t1_t2("train", lesions=True).select(full)
                recipe = Options(condition="source", steps=self.translator_steps)
                fitted = train_generator(how, pairs, folder / "model", recipe, device="cpu", rotate=1)
            images = fitted.synthesizer.synthesize(range(len(lost)), {"source": sources})["image"].clamp(0, 1)
            trained_on = fitted.synthesizer.trained_on
        slices = _slices(data, lost, _placed(data.images, lost, images))
        slices.trained_on = trained_on
        return slices


def _placed(images: Tensor, rows: list[int], values: Tensor) -> Tensor:
    out = torch.zeros_like(images)
    out[rows] = values
    return out


def _slices(data: BrainContrasts, rows: list[int], t2: Tensor) -> Slices:
    """Slices of two channels, T1 and T2."""
    ids = [f"ICBM152 axial row {data.places[k][0]} deformation {data.places[k][1]}" for k in rows]
    return Slices(torch.cat([data.sources[rows], t2[rows]], 1), data.masks[rows], ids)
