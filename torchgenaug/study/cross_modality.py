"""The study ``cross-modality``: masks exist for T1-weighted slices, the segmenter is used on T2-weighted ones.

A translator is trained on pairs without masks; it turns the few labelled T1 slices into T2, which keep their masks. The
controls are the T1 slices themselves, also under transforms that hide their contrast, and an intensity look-up table
fitted on the very pairs that the translator had. Both contrasts are simulated, from one brain: T2 is nearly a function
of T1, so the table is hard to beat here, and a control at both doses of the translated slices.
See `torchgenaug.datasets.brain_contrasts`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from torchgenaug.datasets.brain_contrasts import BrainContrasts
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.options import Options
from torchgenaug.study.arms import Arm, mixed, oracle, real_repeated, real_transformed
from torchgenaug.study.generators import alone, train_generator
from torchgenaug.study.intensity_maps import RandomIntensityMap, apply_intensity_map, fit_intensity_map
from torchgenaug.study.segmentation import Segmentation
from torchgenaug.study.slices import Slices
from torchgenaug.study.splits import Split
from torchgenaug.study.study import Study
from torchgenaug.study.transforms import BatchAffine

_NUM_TISSUES, _VARIANTS = 4, 5
_FIELDS = ("image", "mask")


@dataclass(frozen=True)
class CrossModality:
    """Settings of the study.

    Attributes:
        labelled: T1 slices with masks, evenly over the places of the training split.
        translator_steps: training steps of pix2pix.
        steps: optimizer steps of the segmenter.
        seeds: of the segmenter.
        batch_size: of the segmenter.
    """

    labelled: int = 16
    translator_steps: int = 600
    steps: int = 300
    seeds: int = 5
    batch_size: int = 8

    def build(self, out: Path, name: str) -> Study:
        """The study; its translator is trained in `out` when it is first needed."""
        data, held_out = BrainContrasts("train"), BrainContrasts("held_out")
        places = len(data) // _VARIANTS
        if not 2 <= self.labelled <= places // 2:
            raise ConfigurationError(
                f"`labelled` must be between 2 and {places // 2}, got {self.labelled}. The other places are the "
                "translator's. Try 16."
            )
        stride = places // self.labelled
        labelled = [_VARIANTS * stride * k for k in range(self.labelled)]
        taken = {row // _VARIANTS for row in labelled}
        pairs = [row for row in range(len(data)) if row // _VARIANTS not in taken]
        half = len(held_out) // 2
        train = _slices(data, labelled, data.sources)
        split = Split(
            "all",
            train,
            _slices(held_out, range(half), held_out.images),
            _slices(held_out, range(half, len(held_out)), held_out.images),
        )

        @functools.cache
        def translated() -> Slices:
            return self._translate(train, pairs, out)

        table = fit_intensity_map(data.sources[pairs], data.images[pairs])
        looked_up = Slices(apply_intensity_map(train.images, table), train.masks, train.ids)
        affine, hidden = BatchAffine(), RandomIntensityMap()
        control: dict[str, Any] = {"fields": _FIELDS, "transform": affine}
        table_arm = mixed(looked_up, 0.5, name="look-up table 50%, affine", **control)
        table_only = mixed(looked_up, 1.0, name="look-up table only, affine", **control)
        arms: list[Arm] = [
            real_repeated("T1 repeated"),
            real_transformed(affine, "T1, affine"),
            real_transformed(hidden, "T1, random intensities, affine"),
            replace(table_arm, role="control"),
            mixed(lambda split: translated(), 0.5, name="pix2pix 50%, affine", **control),
            mixed(lambda split: translated(), 1.0, name="pix2pix only, affine", **control),
            oracle(lambda split: _slices(data, labelled, data.images), affine, "oracle: true T2, affine"),
            replace(table_only, role="control"),
        ]
        task = Segmentation(_NUM_TISSUES, batch_size=self.batch_size)
        return Study(
            split, arms, task.train, task.score, steps=self.steps, seeds=self.seeds, metric="mean Dice", name=name
        )

    def _translate(self, labelled: Slices, pairs: Sequence[int], out: Path) -> Slices:
        folder = out / "generators" / "pix2pix"
        with alone(folder):
            data = load_data("brain-t1-t2").select(pairs)
            recipe = Options(condition="source", steps=self.translator_steps)
            fitted = train_generator("pix2pix", data, folder / "model", recipe, device="cpu", rotate=1)
        images = fitted.synthesizer.synthesize(range(len(labelled)), {"source": labelled.images})["image"]
        translated = Slices(images.clamp(0, 1), labelled.masks, labelled.ids)
        translated.trained_on = fitted.synthesizer.trained_on
        return translated


def _slices(data: BrainContrasts, rows: Sequence[int], images: Tensor) -> Slices:
    """Slices of one modality with their masks; their ids are those of `load_data`."""
    chosen = list(rows)
    ids = [f"ICBM152 axial row {data.places[k][0]} deformation {data.places[k][1]}" for k in chosen]
    return Slices(images[chosen], data.masks[chosen], ids)
