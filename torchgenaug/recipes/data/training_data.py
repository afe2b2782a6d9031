"""`TrainingData`: what a recipe trains on, whatever it was read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.limits import limited_rows
from torchgenaug.recipes.data.sample_sets import (
    RenamedSamples,
    Samples,
    SelectedSamples,
    TensorSamples,
    known_labels,
)
from torchgenaug.seeding import permutation
from torchgenaug.sources.positions import checked_index
from torchgenaug.types import FieldSpec

Split: TypeAlias = Literal["train", "held_out", "test"]
UNLABELLED = -1
"""`label` of a sample whose class is not known."""


@dataclass(frozen=True, repr=False)
class TrainingData:
    """Real samples to train a generative model on.

    Args:
        samples: sample k is a dict of ``image`` (channels, *spatial) float32 and, where the data have them, ``label``
            () int64 (-1: not known), ``mask`` (1, *spatial) int64 and ``source`` (channels, *spatial) float32.
        fields: what every sample holds. `image` and `source` always have a value range, in the unit of the files (8-bit
            files: [0, 1]); that of `label` is (0, classes - 1), that of `mask` (0, largest class).
        ids: one per sample, distinct: file name, place or row. They go into what a synthesizer says it was trained on.
        name: how the user named the data.
        patients: one per sample; empty where unknown. `split` keeps the samples of one patient together.
        class_names: name of each class of `label`; empty: the numbers are the names.
        remarks: what a user should know about how the data were read, a sentence each.
        varies: whether reading a sample twice gives two things: a data set that augments.
        quarter_turns: counter-clockwise quarter turns that show a slice upright: 1 where the first axis is x.
        reading: options of `load_data` that a folder was read with, apart from the size.
    """

    samples: Samples
    fields: Mapping[str, FieldSpec]
    ids: tuple[str, ...]
    name: str
    patients: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    varies: bool = False
    quarter_turns: int = 0
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        """Sample `index` as a dict of fields: with ``len()`` a data set for a mix or a ``DataLoader``."""
        return self.samples[checked_index(index, len(self))]

    def __repr__(self) -> str:
        parts = [f"{len(self):,} samples"]
        if self.patients:
            parts.append(f"{len(set(self.patients))} patients")
        for name, spec in self.fields.items():
            if spec.value_range is None:
                parts.append(f"{name} {spec.shape}")
            elif spec.kind == "intensity":
                parts.append(f"{name} {spec.shape} in [{spec.value_range[0]:g}, {spec.value_range[1]:g}]")
            elif spec.kind == "label_map":
                parts.append(f"{name} of {_num_values(spec)} classes")
        labels = self.labels()
        if labels is not None:
            known = labels[labels != UNLABELLED]
            parts.append(f"labels {_counted(known, self.num_classes or 0, self.class_names)}")
            if len(known) < len(labels):
                parts.append(f"{len(labels) - len(known)} without a label")
        return f"TrainingData({self.name!r}: {', '.join(parts)}; {self._memory()})"

    def _memory(self) -> str:
        samples: object = self.samples
        while isinstance(samples, SelectedSamples):
            samples = samples.samples
        return f"{samples.num_bytes / 1e6:.1f} MB in memory" if isinstance(samples, TensorSamples) else "read each time"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, *spatial)."""
        return self.fields["image"].shape

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.image_shape) - 1

    @property
    def num_classes(self) -> int | None:
        """How many classes `label` has; None without labels."""
        return _num_values(self.fields.get("label"))

    @property
    def num_mask_classes(self) -> int | None:
        """How many classes `mask` has, background included; None without masks."""
        return _num_values(self.fields.get("mask"))

    def labels(self) -> npt.NDArray[np.int64] | None:
        """The class of every sample (samples,), -1 where it is not known; None without labels."""
        if "label" not in self.fields:
            return None
        known = known_labels(self.samples)
        if known is not None:
            return known.numpy()
        return np.array([int(self.samples[k]["label"]) for k in range(len(self))], np.int64)

    @property
    def num_unlabelled(self) -> int:
        """How many samples of data with labels have none."""
        labels = self.labels()
        return 0 if labels is None else int((labels == UNLABELLED).sum())

    def labelled(self) -> TrainingData:
        """The data without the samples whose class is not known."""
        labels = self.labels()
        return self if labels is None else self.select(np.flatnonzero(labels != UNLABELLED).tolist())

    def exchanged(self) -> TrainingData:
        """`source` and `image` in each other's role: to train a translator the other way.

        Raises:
            ConfigurationError: data without a source.
        """
        if "source" not in self.fields:
            raise ConfigurationError(
                f"The data must have a source to exchange it with the image, got {', '.join(self.fields)} from "
                f"{self.name!r}. Give data with pairs, such as brain-t1-t2."
            )
        roles = {"image": "source", "source": "image"}
        return self._renamed({name: roles.get(name, name) for name in self.fields})

    def without(self, field: str) -> TrainingData:
        """The data without a field, for example pairs that lost their masks."""
        return self._renamed({name: name for name in self.fields if name != field})

    def _renamed(self, names: Mapping[str, str]) -> TrainingData:
        fields = {name: self.fields[old] for name, old in names.items()}
        return replace(self, samples=RenamedSamples(self.samples, names), fields=fields)

    def select(self, rows: Sequence[int]) -> TrainingData:
        """The samples at these positions, in this order.

        Raises:
            ConfigurationError: a position twice: ids have to be distinct.
        """
        repeated = [row for row, count in Counter(map(int, rows)).items() if count > 1]
        if repeated:
            raise ConfigurationError(
                f"`rows` must be distinct, got {repeated[0]} more than once. Ids name what a model was trained on. To "
                "show a sample more often, repeat it in the sampler of the training loop."
            )
        return replace(
            self,
            samples=SelectedSamples(self.samples, rows),
            ids=tuple(self.ids[row] for row in rows),
            patients=tuple(self.patients[row] for row in rows) if self.patients else (),
        )

    def split(self, held_out: float = 0.1, seed: int = 0) -> tuple[TrainingData, TrainingData]:
        """Two parts, drawn by `seed`: to train on, and held out. All samples of a patient fall on one side.

        Args:
            held_out: fraction of the patients, or where none are known of the samples, in (0, 1).
            seed: of the draw.

        Raises:
            ConfigurationError: a fraction outside (0, 1), or nothing left on one side.
        """
        if not 0 < held_out < 1:
            raise ConfigurationError(f"`held_out` must be between 0 and 1, got {held_out!r}. Try held_out=0.1.")
        groups = self.patients or self.ids
        distinct = sorted(set(groups))
        count = max(1, round(held_out * len(distinct)))
        if count >= len(distinct):
            raise ConfigurationError(
                f"`held_out` must leave something to train on, got {held_out!r} of {len(distinct)} "
                f"{'patient' if self.patients else 'sample'}(s). Add data."
            )
        chosen = {distinct[k] for k in permutation(seed, len(distinct))[:count]}
        rows: dict[bool, list[int]] = {False: [], True: []}
        for row, group in enumerate(groups):
            rows[group in chosen].append(row)
        return self.select(rows[False]), self.select(rows[True])

    def limit(self, count: int | Mapping[int, int], seed: int = 0) -> TrainingData:
        """`count` samples drawn by `seed`, per class where there are labels: the few-shot setting.

        Args:
            count: of each class; or class → how many of it, all samples of classes that are not named. Samples
                whose class is not known all stay.
            seed: of the draw.

        Raises:
            ConfigurationError: fewer than one, or more than a class (without labels: the data) has.
        """
        return self.select(limited_rows(self.labels(), len(self), count, seed))


def spread_rows(total: int, most: int) -> list[int]:
    """At most `most` of the rows in ``range(total)``, distinct and evenly spread from the first to the last."""
    if total <= most:
        return list(range(total))
    return [(2 * k + 1) * total // (2 * most) for k in range(most)]


def _counted(labels: npt.NDArray[np.int64], num_classes: int, names: Sequence[str]) -> str:
    """How many of each class: "0: 20, 1: 30, …", at most eight of them."""
    counts = np.bincount(labels, minlength=num_classes).tolist()
    if len(set(counts)) == 1:
        return f"{len(counts)} classes of {counts[0]}"
    shown = [f"{names[k] if names else k}: {count}" for k, count in enumerate(counts[:8])]
    return ", ".join([*shown, f"… ({len(counts)} classes)"] if len(counts) > 8 else shown)


def _num_values(spec: FieldSpec | None) -> int | None:
    return None if spec is None or spec.value_range is None else int(spec.value_range[1]) + 1


__all__ = ["UNLABELLED", "Samples", "SelectedSamples", "Split", "TensorSamples", "TrainingData", "spread_rows"]
