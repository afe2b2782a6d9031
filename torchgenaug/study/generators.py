"""`Generator`: the synthetic samples of a study file, from a family to train, a saved model, or rendered shards."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug.conditions.labels import ClassLabels
from torchgenaug.conditions.real import RealFields
from torchgenaug.errors import ConfigurationError, InterruptedTrainingError
from torchgenaug.file_locks import lock_now
from torchgenaug.local_paths import make_folder
from torchgenaug.recipes.build import describe_family, list_families
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.fit import FitResult, fit
from torchgenaug.recipes.lock import open_lock
from torchgenaug.recipes.options import FitOptions, Options
from torchgenaug.recipes.settings import parse_settings
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.shards.read.reader import ShardSource
from torchgenaug.shards.render.render import render_shards
from torchgenaug.study.elastic import BatchElastic
from torchgenaug.study.further_images import FurtherImages
from torchgenaug.study.splits import Split
from torchgenaug.synthesizers.saving.load import load_synthesizer

_RENDER_BATCH = 50


@dataclass(frozen=True)
class Generator:
    """Where synthetic samples come from: exactly one of `family`, `model` and `shards`.

    Attributes:
        family: trained by `fit` on the training data of each split: conditioned on the class, or where the task needs
            masks on the mask, or making both.
        steps: training steps of the family; None: its own default.
        batch_size: samples of a training step; None: its own default.
        settings: of the family, as ``torchgenaug fit --set`` takes them: ``["ada=true"]``.
        model: folder of a saved synthesizer; it must have seen none of the validation and test data.
        shards: folder of rendered samples with ``image`` and ``label``.
        count: samples rendered from `family` or `model`: with classes all equally often, with masks those of the
            training data, each moved anew, or the model's own.
    """

    family: str | None = None
    steps: int | None = None
    batch_size: int | None = None
    settings: tuple[str, ...] = ()
    model: str | None = None
    shards: str | None = None
    count: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "count"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(
                    f"`{name}` of [synthetic] must be at least 1, got {value}. There would be no synthetic samples. "
                    f"For example {name} = 200."
                )
        given = [name for name in ("family", "model", "shards") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigurationError(
                f"`synthetic` must name one of family, model and shards, got {given or 'none'}. For example: "
                'family = "acgan".'
            )
        if self.family is not None:
            self._settings()  # what is misspelt is named here, before the data are read
        elif self.settings:
            raise ConfigurationError(
                f"`settings` of [synthetic] must stand with a family, got {list(self.settings)} with {given[0]}. They "
                "are of its training. Leave them out."
            )

    def source(
        self, split: Split, num_classes: int | None, out: Path, beside: Path, further: FurtherImages | None = None
    ) -> Any:
        """The samples for a split; trained and rendered in `out` where they are not there yet.

        Several processes may call it: one works, the others wait for it.

        Args:
            split: its training data are `RealSamples`, or a part of such.
            num_classes: of the labels; None: with masks.
            out: folder of the study.
            beside: what paths are relative to.
            further: images without a label, from which the family learns, too.
        """
        if self.shards is not None:
            return ShardSource(beside / self.shards)
        folder = out / "generators" / split.name
        with alone(folder):
            if self.family is None:
                synthesizer = load_synthesizer(beside / str(self.model))
            else:
                recipe = self._options(num_classes is None)
                data = split.train.training_data if further is None else further.with_labelled(split)
                synthesizer = train_generator(self.family, data, folder / "model", recipe).synthesizer
            sequence = SyntheticSequence(synthesizer, _conditions(synthesizer, split, num_classes))
            return render_shards(sequence, folder / "shards", self.count, batch_size=_RENDER_BATCH, progress=False)

    def _settings(self) -> dict[str, Any]:
        family = str(self.family)
        return dict(parse_settings(family, describe_family(family).settings, self.settings))

    def _options(self, with_masks: bool) -> Options:
        options = Options(steps=self.steps, batch_size=self.batch_size, settings=self._settings())
        if not with_masks:
            return replace(options, condition="label")
        about = describe_family(str(self.family))
        if "mask" in about.conditions:
            return replace(options, condition="mask")
        if about.with_mask:
            return replace(options, with_mask=True)
        able = [name for name in list_families() if _knows_masks(name)]
        raise ConfigurationError(
            f"`family` must be one that knows masks, got {self.family!r}. A segmenter cannot learn from images alone. "
            f"These do: {', '.join(able)}."
        )


def train_generator(
    family: str,
    data: TrainingData,
    folder: Path,
    recipe: Options,
    *,
    held_out: TrainingData | None = None,
    device: str | None = None,
    progress: bool = False,
    rotate: int = 0,
) -> FitResult:
    """Trains a generator by `fit`, to its end and with one report; all arguments are those of `fit`.

    Raises:
        InterruptedTrainingError: a signal ended the training.
    """
    fitted = fit(
        family,
        data,
        folder,
        held_out=held_out,
        recipe=recipe,
        options=FitOptions(reports=1),
        device=device,
        progress=progress,
        rotate=rotate,
    )
    if not fitted.finished:
        raise InterruptedTrainingError(
            "The training of the generator must end before the job goes on, got a signal at step "
            f"{fitted.steps}. Its checkpoint is kept. The same command goes on."
        )
    return fitted


def _knows_masks(family: str) -> bool:
    about = describe_family(family)
    return about.with_mask or "mask" in about.conditions


def _conditions(synthesizer: Any, split: Split, num_classes: int | None) -> Any:
    if num_classes is not None:
        return ClassLabels(num_classes)
    if "mask" in synthesizer.fields and not getattr(synthesizer, "condition_fields", None):
        return None  # it makes masks of its own

    def move(fields: dict[str, Tensor]) -> dict[str, Tensor]:
        # The random numbers of this call are those of (seed, id).
        seeds = torch.randint(2**62, (1,)).numpy().astype(np.uint64)
        return {name: BatchElastic()(values[None], seeds)[0] for name, values in fields.items()}

    return RealFields(split.train, "mask", transform=move)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process works in the folder."""
    make_folder(folder)
    descriptor = open_lock(folder / ".lock")
    try:
        while not lock_now(descriptor):
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
