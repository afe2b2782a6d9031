"""The study ``cross-modality``: masks exist for T1-weighted slices, the segmenter is used on T2-weighted ones.

A translator is trained on pairs without masks; it turns the few labelled T1 slices into T2, which keep their masks. The
controls are the T1 slices themselves, also under transforms that hide their contrast, and what the same pairs give
without a generator: an intensity look-up table, and a regression network. Both contrasts are simulated, from one brain.
Without lesions T2 is nearly a function of T1, so the table is hard to beat; with ``lesions = true`` no table can be
right. See `torchgenaug.datasets.brain_contrasts`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from torchgenaug.datasets.brain_contrasts import BrainContrasts
from torchgenaug.datasets.second_brain import DEBIAN_FOLDER, second_brain, second_brain_there
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.build import describe_family
from torchgenaug.recipes.data.embedded import brain_t1_t2
from torchgenaug.recipes.options import Options
from torchgenaug.study.arms import Arm, mixed, oracle, real_repeated, real_transformed
from torchgenaug.study.generators import alone, train_generator
from torchgenaug.study.intensity_maps import RandomIntensityMap, apply_intensity_map, fit_intensity_map
from torchgenaug.study.segmentation import Segmentation
from torchgenaug.study.slices import Slices
from torchgenaug.study.splits import Split
from torchgenaug.study.study import Study
from torchgenaug.study.transforms import BatchAffine

_NUM_TISSUES, _LESION, _VARIANTS = 4, 4, 5
_FIELDS = ("image", "mask")
_REGRESSION = "regression"


@dataclass(frozen=True)
class CrossModality:
    """Settings of the study.

    Attributes:
        lesions: with lesions and bias fields, where a look-up table must fail.
        labelled: T1 slices with masks, evenly over the places of the training split.
        translators: families that know a source, paired or unpaired; all are trained on the same pairs.
        translator_steps: training steps of each.
        doses: fractions of translated slices; controls that translate get the same ones.
        steps: optimizer steps of the segmenter.
        seeds: of the segmenter.
        batch_size: of the segmenter.
        second_brain: folder with ``ch2bet.nii.gz`` of Debian's ``mricron-data``; where it is missing, there is no
            external test. See `torchgenaug.datasets.second_brain`.
    """

    lesions: bool = False
    labelled: int = 16
    translators: tuple[str, ...] = ("pix2pix",)
    translator_steps: int = 400
    doses: tuple[float, ...] = (1.0,)
    steps: int = 300
    seeds: int = 5
    batch_size: int = 4
    second_brain: str = str(DEBIAN_FOLDER)

    def __post_init__(self) -> None:
        for each in self.translators:
            if each == _REGRESSION or "source" not in describe_family(each).conditions:
                raise ConfigurationError(
                    f"`translators` must be families that know a source, got {each!r}. Regression is a control "
                    "already, and others cannot translate. For example pix2pix, cyclegan, cut."
                )

    def build(self, out: Path, name: str) -> Study:
        """The study; its translators are trained in `out` when they are first needed."""
        data, held_out = (BrainContrasts(each, lesions=self.lesions) for each in ("train", "held_out"))
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
        def translated(family: str) -> Slices:
            return self._translate(family, train, pairs, out)

        table = fit_intensity_map(data.sources[pairs], data.images[pairs])
        looked_up = Slices(apply_intensity_map(train.images, table), train.masks, train.ids)
        affine, hidden = BatchAffine(), RandomIntensityMap()

        def arm(source: Any, ratio: float, what: str) -> Arm:
            dose = "only" if ratio == 1 else f"{ratio:.0%}"
            return mixed(source, ratio, fields=_FIELDS, transform=affine, name=f"{what} {dose}, affine")

        def of(family: str) -> Callable[[Split], Slices]:
            return lambda split: translated(family)

        arms: list[Arm] = [
            real_repeated("T1 repeated"),
            real_transformed(affine, "T1, affine"),
            real_transformed(hidden, "T1, random intensities, affine"),
            *(replace(arm(looked_up, dose, "look-up table"), role="control") for dose in self.doses),
            *(replace(arm(of(_REGRESSION), dose, _REGRESSION), role="control") for dose in self.doses),
            *(arm(of(family), dose, family) for family in self.translators for dose in self.doses),
            oracle(lambda split: _slices(data, labelled, data.images), affine, "oracle: true T2, affine"),
        ]
        task = Segmentation(_NUM_TISSUES + self.lesions, width=8, batch_size=self.batch_size, learning_rate=6e-3)
        return Study(
            split,
            arms,
            task.train,
            Measures(task, self._external(), self.lesions),
            steps=self.steps,
            seeds=self.seeds,
            metric="mean Dice",
            name=name,
        )

    def _external(self) -> Slices | None:
        if not second_brain_there(Path(self.second_brain)):
            return None
        _, images, masks = second_brain(Path(self.second_brain), lesions=self.lesions)
        return Slices(images, masks, [f"Colin27 slice {k}" for k in range(len(images))])

    def _translate(self, family: str, labelled: Slices, pairs: Sequence[int], out: Path) -> Slices:
        folder = out / "generators" / family
        with alone(folder):
            data = brain_t1_t2("train", lesions=self.lesions).select(pairs)
            recipe = Options(condition="source", steps=self.translator_steps)
            fitted = train_generator(family, data, folder / "model", recipe, device="cpu", rotate=1)
        images = fitted.synthesizer.synthesize(range(len(labelled)), {"source": labelled.images})["image"]
        translated = Slices(images.clamp(0, 1), labelled.masks, labelled.ids)
        translated.trained_on = fitted.synthesizer.trained_on
        return translated


@dataclass(frozen=True)
class Measures:
    """The score function of the study: ``mean Dice``, and where they exist ``lesion Dice`` and that on another brain.

    Attributes:
        task: of the segmenter.
        external: slices of another brain.
        lesions: whether class 4 is lesions.
    """

    task: Segmentation
    external: Slices | None
    lesions: bool

    settings = "mean Dice, lesion Dice, second brain"

    def __call__(self, model: nn.Module, data: Slices) -> dict[str, float]:
        """All of them."""
        found = {"mean Dice": self.task.score(model, data)}
        if self.lesions:
            found["lesion Dice"] = self.task.dice(model, data)[_LESION - 1]
        if self.external is not None:
            found["mean Dice, second brain"] = self.task.score(model, self.external)
        return found


def _slices(data: BrainContrasts, rows: Sequence[int], images: Tensor) -> Slices:
    """Slices of one modality with their masks; their ids are those of `load_data`."""
    chosen = list(rows)
    ids = [f"ICBM152 axial row {data.places[k][0]} deformation {data.places[k][1]}" for k in chosen]
    return Slices(images[chosen], data.masks[chosen], ids)
