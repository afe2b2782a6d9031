"""Copies of training images in a synthetic set, with and without held-out images to calibrate on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.errors import FieldMismatchError
from torchgenaug.trust.copies.describe import Described, describe
from torchgenaug.trust.copies.detector import CopyDetector
from torchgenaug.trust.copies.duplicates import overlap_of
from torchgenaug.trust.copies.gallery import Gallery
from torchgenaug.trust.copies.report import CopyReport
from torchgenaug.trust.leaks.check import Leak
from torchgenaug.trust.leaks.real_images import images_or_view
from torchgenaug.trust.report.image_set import ImageSet
from torchgenaug.trust.report.picture_data import Pair
from torchgenaug.trust.report.repeats import count_identical

_PAIRS = 20
_FEWEST = 3  # held-out images that a detector takes
_EQUAL = 0.5 / 255  # of the value range: the rounding of 8 bit


@dataclass(frozen=True, eq=False)
class Copying:
    """What was found.

    Attributes:
        within: what the images were compared within: ``"class"``, ``"condition"`` or nothing.
        report: calibrated; None without held-out images.
        similar: near-duplicates by the limit of `find_overlap`.
        identical: equal pixel by pixel.
        drawn: the most suspicious pairs.
        uncalibrated: JSON-ready pairs, where there is no report.
    """

    report: CopyReport | None
    similar: int
    identical: int
    drawn: tuple[Pair, ...]
    uncalibrated: tuple[dict[str, Any], ...]
    within: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; ``found`` is None where nothing could be calibrated."""
        found: dict[str, Any] = {
            "found": None,
            "expected_by_chance": None,
            "calibrated_on": 0,
            "pairs": list(self.uncalibrated),
        }
        found = found if self.report is None else self.report.to_json(_PAIRS)
        return found | {
            "compared_within": self.within or None,
            "identical": self.identical,
            "near_duplicates": self.similar,
        }


def find_copying(
    real: ImageSet,
    synthetic: ImageSet,
    held_out: ImageSet | None,
    described: tuple[Described, Described],
    limits: tuple[float, float],
    false_alarm_rate: float,
    held_out_synthetic: ImageSet | None = None,
) -> Copying:
    """Searches the nearest training image of every synthetic one.

    Args:
        real: the training images.
        synthetic: the images that are judged.
        held_out: real images that training has not seen; None: likeness cannot be calibrated.
        described: descriptors of `real` and of `synthetic`.
        limits: value range.
        false_alarm_rate: see `CopyDetector`.
        held_out_synthetic: images made from conditions of held-out samples; see `CopyDetector`.
    """
    report, within = None, ""
    if held_out is not None and len(held_out) >= _FEWEST and len(set(held_out.patients or range(_FEWEST))) >= _FEWEST:
        labels = None if held_out_synthetic is not None else _labels(real, synthetic, held_out)
        within = "condition" if held_out_synthetic is not None else "class" if labels is not None else ""
        detector = CopyDetector(
            real.images,
            held_out.images,
            labels=None if labels is None else (labels[0], labels[2]),
            patients=held_out.patients or None,
            held_out_synthetic=None if held_out_synthetic is None else held_out_synthetic.images,
            false_alarm_rate=false_alarm_rate,
        )
        report = detector(synthetic.images, None if labels is None else labels[1])
    found = Gallery.of(described[0]).nearest(described[1])
    nearest: npt.NDArray[np.int64] = found.block_index.numpy() if report is None else report.nearest
    width = limits[1] - limits[0]
    identical = max(
        count_identical(synthetic.images, real.images, each, _EQUAL * width)
        for each in (nearest, found.block_index.numpy())
    )
    similar = (
        len(overlap_of(described[0], described[1], ("real", "synthetic"), synthetic="looked up"))
        if len(real) > 1
        else identical
    )
    order = found.block_distance.argsort()[:_PAIRS].tolist()
    order = [row for row in order if bool(found.block_distance[row].isfinite())]
    loose = tuple({"image": k, "nearest": int(nearest[k]), "distance": float(found.block_distance[k])} for k in order)
    captions = (
        [(k["image"], k["nearest"], f"distance {k['distance']:.2g}") for k in loose]
        if report is None
        else [(pair.image, pair.nearest, f"p = {pair.p_value:.2g}") for pair in report.worst(_PAIRS)]
    )
    drawn = tuple(
        Pair(
            torch.as_tensor(synthetic.images[image]).clone(),
            torch.as_tensor(real.images[other]).clone(),
            f"#{image} and #{other}, {text}",
        )
        for image, other, text in captions
        if other >= 0
    )
    return Copying(report, similar, identical, drawn, loose, within)


def _labels(*sets: ImageSet) -> list[npt.NDArray[np.int64]] | None:
    """The classes of all sets, where images can be compared within their class; None where they cannot."""
    known = [each.labels for each in sets if each.labels is not None]
    if len(known) < len(sets):
        return None
    real, synthetic, held_out = known
    enough = all((real == each).any() and (held_out == each).sum() > 1 for each in np.unique(synthetic))
    return known if enough else None


def repeats_of_held_out(synthetic: Described, held_out: Any) -> tuple[Leak, ...]:
    """Held-out images that a synthetic image repeats."""
    described = describe(images_or_view(held_out), name="held_out")
    try:
        pairs = overlap_of(synthetic, described, ("synthetic", "held_out"), synthetic="searched")
    except FieldMismatchError:  # refused before, with advice
        return ()
    return tuple(Leak("held_out", pair.second, "synthetic content", f"index {pair.first}") for pair in pairs)
