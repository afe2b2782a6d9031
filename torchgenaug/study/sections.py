"""Tables of a study file: ``[data]``, ``[task]`` and ``[arms]``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.patient_split import anonymised
from torchgenaug.recipes.data.training_data import TrainingData

KINDS = {"classification": "label", "segmentation": "mask"}
"""Kind of a task → the field that it needs."""
_NETWORKS = ("small", "monai")
_METRICS = {
    "classification": ("accuracy", "balanced accuracy", "AUC", "sensitivity", "specificity", "rare recall"),
    "segmentation": ("mean Dice", "-Hausdorff 95"),
}


@dataclass(frozen=True)
class DataSection:
    """``[data]``: what is studied, and how it is divided.

    Attributes:
        name: see `load_data`, as are `size`, `spacing`, `images`, `masks`, `folders`, `table` and `volumes`.
        per_class: real training samples of each class; None: all.
        rare: classes of which there are fewer.
        rare_count: real training samples of each of these.
        validation: fraction of the patients, or of the samples where none are known.
        test: the same.
        split: folder of a model by ``fit --split patients``.
        held_out: validation and test samples are halves of the held-out part of an embedded set, which lies elsewhere;
            `validation` and `test` do not count.
        labelled_only: leave out images whose class is not known.
        anonymous: write pseudonyms in place of the names of samples and patients, as ``fit --anonymous`` does.
    """

    name: str = "digits"
    size: int | tuple[int, ...] | None = None
    spacing: float | tuple[float, ...] | None = None
    images: str | None = None
    masks: str | None = None
    folders: str | None = None
    table: str | None = None
    volumes: bool = False
    per_class: int | None = None
    rare: tuple[int, ...] = ()
    rare_count: int = 5
    validation: float = 0.2
    test: float = 0.2
    split: str | None = None
    held_out: bool = False
    labelled_only: bool = False
    anonymous: bool = False

    def written(self, data: TrainingData) -> TrainingData:
        """The data under the names that may be written; they are divided before, as names decide which is where."""
        return anonymised(data) if self.anonymous else data

    def load(self, beside: Path) -> TrainingData:
        """The data.

        Args:
            beside: folder of the study file, to which a folder that it names may be relative.
        """
        names = ("size", "spacing", "images", "masks", "folders", "table", "volumes")
        near = beside / self.name
        options: dict[str, Any] = {name: getattr(self, name) for name in names}
        return load_data(near if near.exists() else self.name, **options)


@dataclass(frozen=True)
class TaskSection:
    """``[task]``: the downstream network."""

    kind: str = "classification"
    network: str = "small"
    metric: str | None = None
    width: int = 16
    batch_size: int = 32
    learning_rate: float = 3e-3
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, known in (("kind", tuple(KINDS)), ("network", _NETWORKS)):
            if getattr(self, name) not in known:
                raise ConfigurationError(
                    f"`{name}` of [task] must be one of {', '.join(known)}, got {getattr(self, name)!r}. For any other "
                    'task write a function: study = "my_package.my_study:build".'
                )
        if self.metric is not None and self.metric not in _METRICS[self.kind]:
            raise ConfigurationError(
                f"`metric` of [task] must be one of {', '.join(_METRICS[self.kind])}, got {self.metric!r}. No arm "
                f'could be compared. For example metric = "{_METRICS[self.kind][0]}".'
            )
        for name, least, allowed in (("batch_size", 1, "at least 1"), ("width", 4, "a multiple of 4")):
            if getattr(self, name) < least or getattr(self, name) % least:
                raise ConfigurationError(
                    f"`{name}` of [task] must be {allowed}, got {getattr(self, name)}. No network could be "
                    f"trained. For example {name} = 16."
                )
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigurationError(
                f"`learning_rate` of [task] must be above 0, got {self.learning_rate}. Nothing would be learnt. For "
                "example learning_rate = 3e-3."
            )


@dataclass(frozen=True)
class ArmsSection:
    """``[arms]``: what is compared beyond the standard arms."""

    ratios: tuple[float, ...] = (0.25, 0.5, 0.75)
    elastic: bool = False
    filtered: bool = False
    pretrained: bool = False
    schedule: bool = False
    pseudo_labels: bool = False
    rare_classes: bool = False
    transforms: str | None = None
