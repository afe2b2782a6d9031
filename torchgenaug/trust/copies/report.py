"""`CopyReport`: the verdict on a set of synthetic images, with its worst pairs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.pictures import contact_sheet
from torchgenaug.trust.copies.describe import Images
from torchgenaug.types import FieldSpec


class CopyPair(NamedTuple):
    """A synthetic image and the training image that it resembles.

    Attributes:
        image: its position among the judged images.
        nearest: position of the training image.
        statistic: how suspicious, see `CopyReport`.
        p_value: how often an innocent image is as suspicious.
    """

    image: int
    nearest: int
    statistic: float
    p_value: float


@dataclass(frozen=True, eq=False)
class CopyReport:
    """What a `CopyDetector` found, for each image and for the set.

    Attributes:
        nearest: (n,) int64, the most similar training image; -1 where there is none to compare with.
        statistic: (n,) float64, how much nearer to train than to held-out images, in units of the upper spread of
            held-out images themselves: 0 is ordinary, 1 the highest tenth, 3 and more a copy.
        p_value: (n,) float64, how often an innocent real image has so large a statistic; conformal.
        copies: (n,) bool, copies by Benjamini-Hochberg: at most a fraction `false_alarm_rate` of them is expected to be
            innocent. Needs about n / (number of copies) times more held-out images than `flagged` does.
        z_score: Z_U of Meehan et al. (2020) for the whole set: below -3, the model copies more than it should.
        false_alarm_rate: the stated rate.
        num_calibration: held-out images or patients that the p-values rest on.
    """

    nearest: npt.NDArray[np.int64]
    statistic: npt.NDArray[np.float64]
    p_value: npt.NDArray[np.float64]
    copies: npt.NDArray[np.bool_]
    z_score: float
    false_alarm_rate: float
    num_calibration: int

    @property
    def flagged(self) -> npt.NDArray[np.bool_]:
        """(n,) bool, images with a p-value of at most `false_alarm_rate`; some of them by chance."""
        return self.p_value <= self.false_alarm_rate

    @property
    def expected_by_chance(self) -> float:
        """How many images of an honest model would be flagged."""
        return self.false_alarm_rate * len(self.nearest)

    @property
    def can_judge(self) -> bool:
        """False where there are too few held-out images for any image to be flagged."""
        return 1 / (self.num_calibration + 1) <= self.false_alarm_rate

    def worst(self, count: int = 20) -> list[CopyPair]:
        """The most suspicious pairs, worst first."""
        order = np.argsort(-self.statistic, kind="stable")[:count]
        return [
            CopyPair(int(k), int(self.nearest[k]), float(self.statistic[k]), float(self.p_value[k]))
            for k in order
            if self.nearest[k] >= 0
        ]

    def to_json(self, pairs: int = 20) -> dict[str, Any]:
        """A JSON-ready summary: ``found``, ``expected_by_chance``, ``calibrated_on``, ``pairs`` and more."""
        return {
            "found": int(self.flagged.sum()) if self.can_judge else None,
            "named": int(self.copies.sum()) if self.can_judge else None,
            "expected_by_chance": self.expected_by_chance,
            "calibrated_on": self.num_calibration,
            "false_alarm_rate": self.false_alarm_rate,
            "z_score": self.z_score,
            "images": len(self.nearest),
            "pairs": [
                pair._asdict() | {"statistic": max(-1e9, min(pair.statistic, 1e9))} for pair in self.worst(pairs)
            ],
        }

    def draw(self, images: Images, real_train: Images, path: str | os.PathLike[str], count: int = 12) -> Path:
        """Writes a PNG of the worst pairs, synthetic image and training image side by side.

        Args:
            images: the judged images.
            real_train: the training images that the detector was given.
            path: of the PNG.
            count: pairs.
        """
        pairs = self.worst(count)
        rows = [
            {
                "synthetic": torch.as_tensor(images[p.image]),
                "nearest": torch.as_tensor(real_train[p.nearest]),
                "p": p.p_value,
            }
            for p in pairs
        ]
        shape = tuple(torch.as_tensor(images[pairs[0].image]).shape)
        fields = {"synthetic": FieldSpec(shape), "nearest": FieldSpec(shape), "p": FieldSpec((), kind="scalar")}
        return contact_sheet(rows, fields, path)

    def __str__(self) -> str:
        if not self.can_judge:
            needed = round(1 / self.false_alarm_rate) - 1
            return (
                f"Cannot judge: {self.num_calibration} held-out images or patients, {needed} are needed for "
                f"{self.false_alarm_rate:.1%} false alarms."
            )
        return (
            f"{int(self.flagged.sum())} of {len(self.nearest)} images look like copies ({self.expected_by_chance:.1f} "
            f"expected by chance), {int(self.copies.sum())} of them named; Z_U {self.z_score:.1f}; calibrated on "
            f"{self.num_calibration} held-out images or patients."
        )
