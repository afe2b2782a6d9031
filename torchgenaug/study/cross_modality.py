"""The study ``cross-modality``: masks exist for T1-weighted slices, the segmenter is used on T2-weighted ones.

A translator is trained on pairs without masks; it turns the few labelled T1 slices into T2, which keep their masks. The
controls are the T1 slices themselves, also under transforms that hide their contrast, and an intensity look-up table
fitted on the very pairs that the translator had. Both contrasts are simulated, from one brain: T2 is nearly a function
of T1, so the table is hard to beat here, and a control at both doses of the translated slices.
See `torchgenaug.datasets.brain_contrasts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.datasets.brain_contrasts import BrainContrasts
from torchgenaug.errors import ConfigurationError, InterruptedTrainingError
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.fit import fit
from torchgenaug.recipes.options import FitOptions, Options
from torchgenaug.study.arms import Arm, mixed, oracle, real_repeated, real_transformed
from torchgenaug.study.generators import alone
from torchgenaug.study.intensity_maps import RandomIntensityMap, apply_intensity_map, fit_intensity_map
from torchgenaug.study.segmentation import Segmentation
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
        split = Split(
            "all",
            _Slices(data, labelled, data.sources),
            _Slices(held_out, range(half), held_out.images),
            _Slices(held_out, range(half, len(held_out)), held_out.images),
        )
        translated: list[_Slices] = []

        def translator(split: Split) -> _Slices:
            if not translated:
                translated.append(self._translate(split.train, pairs, out))
            return translated[0]

        table = fit_intensity_map(data.sources[pairs], data.images[pairs])
        looked_up = split.train.with_images(apply_intensity_map(split.train.images, table))
        affine, hidden = BatchAffine(), RandomIntensityMap()
        control: dict[str, Any] = {"fields": _FIELDS, "transform": affine}
        table_arm = mixed(looked_up, 0.5, name="look-up table 50%, affine", **control)
        table_only = mixed(looked_up, 1.0, name="look-up table only, affine", **control)
        arms: list[Arm] = [
            real_repeated("T1 repeated"),
            real_transformed(affine, "T1, affine"),
            real_transformed(hidden, "T1, random intensities, affine"),
            replace(table_arm, role="control"),
            mixed(translator, 0.5, name="pix2pix 50%, affine", **control),
            mixed(translator, 1.0, name="pix2pix only, affine", **control),
            oracle(lambda split: _Slices(data, labelled, data.images), affine, "oracle: true T2, affine"),
            replace(table_only, role="control"),
        ]
        task = Segmentation(_NUM_TISSUES, batch_size=self.batch_size)
        return Study(
            split, arms, task.train, task.score, steps=self.steps, seeds=self.seeds, metric="mean Dice", name=name
        )

    def _translate(self, labelled: _Slices, pairs: Sequence[int], out: Path) -> _Slices:
        folder = out / "generators" / "pix2pix"
        with alone(folder):
            fitted = fit(
                "pix2pix",
                load_data("brain-t1-t2").select(pairs),
                folder / "model",
                recipe=Options(condition="source", steps=self.translator_steps),
                options=FitOptions(reports=1),
                device="cpu",
                progress=False,
                rotate=1,
            )
        if not fitted.finished:
            raise InterruptedTrainingError(
                "The training of the generator must end before the job goes on, got a signal at step "
                f"{fitted.steps}. Its checkpoint is kept. The same command goes on."
            )
        images = fitted.synthesizer.synthesize(range(len(labelled)), {"source": labelled.images})["image"]
        translated = labelled.with_images(images.clamp(0, 1))
        translated.trained_on = fitted.synthesizer.trained_on
        return translated


class _Slices(Dataset[dict[str, Tensor]]):
    """Slices of one modality with their masks; their ids are those of `load_data`."""

    trained_on: Any = None

    def __init__(self, data: BrainContrasts, rows: Sequence[int], images: Tensor) -> None:
        chosen = list(rows)
        self.images, self.masks = images[chosen], data.masks[chosen]
        self.ids = [f"ICBM152 axial row {data.places[k][0]} deformation {data.places[k][1]}" for k in chosen]

    def with_images(self, images: Tensor) -> _Slices:
        """The same slices with other images."""
        other = object.__new__(_Slices)
        other.images, other.masks, other.ids = images, self.masks, self.ids
        return other

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.images[index], "mask": self.masks[index]}
