"""`CopyDetector`: which synthetic images are copies of training images, at a stated rate of false alarms."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.trust.copies.calibration import Floats, benjamini_hochberg, conformal_p, mann_whitney_z
from torchgenaug.trust.copies.describe import Described, Images, check_same_shape, checked_alpha, describe
from torchgenaug.trust.copies.gallery import Frame, Gallery, nearest_by_all
from torchgenaug.trust.copies.noise import without_noise
from torchgenaug.trust.copies.report import CopyReport

Labels = Sequence[int] | npt.NDArray[np.int64] | torch.Tensor

_SMALLEST = 1e-6
"""Distances below are rounding."""
_TAIL = 0.98
"""Quantile of calibration that is 1 of every descriptor. Of tiles of nuclei with 5 % noise .97 are then found, by that
of 0.9 .96."""


class _Ratios(NamedTuple):
    """Per image: log (distance to held-out / distance to train) by each descriptor, and the nearest training images."""

    logs: Floats  # (4, n)
    indices: npt.NDArray[np.int64]  # (4, n)
    to_train: Floats  # (3, n), without registration


class CopyDetector:
    """Finds copies of training images among synthetic ones, under flip, turn, shift, gain, gamma and noise.

    An image is suspicious where it lies much nearer to a training image than to any real image that the model never
    saw. How much nearer is normal is measured on the held-out images themselves, each against the others: so a p-value
    says how often an innocent real image lies that near, and ``images · false_alarm_rate`` alarms are
    expected by chance.

    Nearness is measured in four ways, and the most suspicious one counts (all are calibrated together): by a spectrum
    that stays under shifts, flips, turns and gain; by the same of images that fade out towards their border, which
    stays under small rotations and changes of scale; by block means that stay under noise and blur; and by the images
    themselves, registered to those 128 that come nearest by the second one. Deterministic; picklable; about 3 kB an
    image are kept (7 kB of sets below 800 images).

    Args:
        real_train: the images that the model was trained on: (n, channels, *spatial), or a list or data set of
            (channels, *spatial). Two or three spatial axes; volumes may be flipped along any axis, and turned about
            their first one.
        held_out_real: images of the same kind that the model never saw. 1 / false_alarm_rate - 1 of them (or as many
            patients) are the least that allow a judgement; 3 is the least that is accepted.
        labels: (labels of `real_train`, labels of `held_out_real`), integers, of a class-conditional model: images are
            then compared within their class.
        patients: one name for each held-out image, where a patient has several: images of one patient are not
            compared with each other, and each patient counts once.
        held_out_synthetic: images that the model made from conditions of held-out samples (their masks or source
            images). Of a model that is conditioned on images, these are the innocent ones: an image made from a mask
            resembles the sample that the mask is from. Train and held-out then change their places for calibration.
        false_alarm_rate: fraction of innocent images that may be flagged, in (0, 0.5].

    Raises:
        ConfigurationError: too few held-out images, or labels and patients that do not fit.
        EmptyDatasetError: no images.
        FieldMismatchError: images of different shapes, or not finite.

    Example:
        >>> real = torch.rand(400, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> detector = CopyDetector(real[:200], real[200:])
        >>> report = detector(torch.cat([real[:3].flip(2), torch.rand(5, 1, 16, 16)]))
        >>> report.nearest[:3].tolist(), report.flagged[:3].all().item()
        ([0, 1, 2], True)
    """

    def __init__(
        self,
        real_train: Images,
        held_out_real: Images,
        *,
        labels: tuple[Labels, Labels] | None = None,
        patients: Sequence[str] | None = None,
        held_out_synthetic: Images | None = None,
        false_alarm_rate: float = 0.01,
    ) -> None:
        self.false_alarm_rate = checked_alpha(false_alarm_rate, "false_alarm_rate")
        train, held_out = describe(real_train, name="real_train"), describe(held_out_real, name="held_out_real")
        check_same_shape(train, held_out, ("real_train", "held_out_real"))
        if len(held_out) < 3:
            raise ConfigurationError(
                f"`held_out_real` must hold at least 3 images, got {len(held_out)}. They are what copies are judged "
                "against. Keep some real images out of training; 99 allow a judgement at 1 % false alarms."
            )
        self.shape = train.shape
        self._labels = (
            None
            if labels is None
            else (_checked(labels[0], train, "real_train"), _checked(labels[1], held_out, "held_out_real"))
        )
        groups = np.arange(len(held_out)) if patients is None else _numbered(patients, len(held_out))
        # The frame is that of train alone: held-out images must enter as every image does that is judged later.
        self._train = Gallery.of(train, Frame.of(train, reduced=True))
        self._held_out = Gallery.of(held_out, self._train.frame)
        innocent = self._ratios(held_out, self._labels and self._labels[1], groups)
        self._held_out_to_train = innocent.to_train
        if held_out_synthetic is not None:
            innocent = self._swapped(held_out_synthetic)
            groups = np.arange(innocent.logs.shape[1])
        usable = np.isfinite(innocent.logs).all(0)
        if not usable.any():
            raise ConfigurationError(
                "`held_out_real` must hold images that can be compared, got one image or patient per class. Nothing "
                "can be calibrated. Leave out `labels`, or hold out more patients."
            )
        logs, groups = innocent.logs[:, usable], groups[usable]
        self._middle = np.median(logs, axis=1)
        _, place, count = np.unique(groups, return_inverse=True, return_counts=True)
        self._weight = 1.0 / count[place]
        # A scale that rests on the tail that matters, so that all descriptors raise alarms about equally often.
        tails = [_quantile(each, self._weight, _TAIL) for each in logs]
        self._scale = np.maximum(np.array(tails) - self._middle, 1e-6)
        self._calibration = self._score(logs)

    @property
    def num_calibration(self) -> int:
        """Held-out images (or patients) that the p-values rest on."""
        return round(float(self._weight.sum()))

    @property
    def can_judge(self) -> bool:
        """Whether they are enough for the smallest possible p-value, 1 / (n + 1), to reach the false-alarm rate."""
        return 1 / (self.num_calibration + 1) <= self.false_alarm_rate

    @property
    def fingerprint(self) -> str:
        """sha256 over everything that decides a verdict."""
        digest = hashlib.sha256(f"copies 4\n{self.false_alarm_rate!r}\n{self.shape}".encode())
        for gallery in (self._train, self._held_out):
            for tensor in (gallery.spectra, gallery.tapered, gallery.blocks, gallery.middles):
                digest.update(tensor.numpy().tobytes())
        for array in (self._calibration, self._weight, *(self._labels or ())):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __call__(self, images: Images, labels: Labels | None = None) -> CopyReport:
        """Judges synthetic images.

        Args:
            images: (n, channels, *spatial), or a list or data set of (channels, *spatial), of the shape of the real
                ones; read in batches.
            labels: their classes, where the detector was given labels.

        Returns:
            Per image the nearest training image, the statistic and the p-value; see `CopyReport`.
        """
        described = describe(images)
        if described.shape != self.shape:
            raise ConfigurationError(
                f"`images` must be of shape {self.shape} each, as the real ones are, got {described.shape}. "
                "Descriptors of other shapes cannot be compared. Resize them: "
                f"torch.nn.functional.interpolate(images, size={self.shape[1:]})."
            )
        if (labels is None) != (self._labels is None):
            raise ConfigurationError(
                "`labels` must be given to the detector and to its call, or to neither. Images are compared within "
                "their class. Call detector(images, labels)."
            )
        own = None if labels is None else _checked(labels, described, "images")
        ratios = self._ratios(described, own, None)
        score = self._score(ratios.logs)
        # What resembles nothing (a constant image, a class without training images) is no copy.
        score[described.constant.numpy() | ~np.isfinite(ratios.logs).all(0)] = -np.inf
        p = conformal_p(score, self._calibration, self._weight)
        by = self._standard(ratios.logs).argmax(0)
        z = [
            mann_whitney_z(*(each[np.isfinite(each)] for each in pair))
            for pair in zip(ratios.to_train, self._held_out_to_train, strict=True)
        ]
        return CopyReport(
            nearest=ratios.indices[by, np.arange(len(by))],
            statistic=score,
            p_value=p,
            copies=benjamini_hochberg(p, self.false_alarm_rate),
            z_score=min(z),
            false_alarm_rate=self.false_alarm_rate,
            num_calibration=self.num_calibration,
        )

    def _standard(self, logs: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            standard: Floats = (logs - self._middle[:, None]) / self._scale[:, None]
        return standard

    def _score(self, logs: Floats) -> Floats:
        """The largest standardised log ratio, more where several are large: the norm of their positive parts."""
        standard = self._standard(np.nan_to_num(logs, nan=-1e9, posinf=1e9, neginf=-1e9))
        cubes = (np.clip(standard, 0, 1e6) ** 3).sum(0) ** (1 / 3)
        score: Floats = np.where(cubes > 0, cubes, standard.max(0))
        return score

    def _ratios(
        self, described: Described, labels: npt.NDArray[np.int64] | None, groups: npt.NDArray[np.int64] | None
    ) -> _Ratios:
        """Ratios of images; `groups` are those of held-out images, which are not compared with their own."""
        return self._compare(described, labels, (self._train, self._held_out), (None, groups))

    def _swapped(self, images: Images) -> _Ratios:
        """Ratios of images made from held-out conditions: held-out is what they may copy, and train is the stranger."""
        described = describe(images, name="held_out_synthetic")
        # As many strangers as a synthetic image has otherwise: nearest distances depend on the number.
        rows = torch.linspace(0, len(self._train) - 1, min(len(self._train), len(self._held_out))).round().long()
        strangers = self._train.rows(rows)
        return self._compare(described, None, (self._held_out, strangers), (None, None))

    def _compare(
        self,
        described: Described,
        labels: npt.NDArray[np.int64] | None,
        galleries: tuple[Gallery, Gallery],
        groups: tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None],
    ) -> _Ratios:
        count = len(described)
        distances = np.full((2, 4, count), np.inf)  # gallery, descriptor, image
        indices = np.full((4, count), -1, np.int64)
        for label in [None] if labels is None else np.unique(labels).tolist():
            rows = np.arange(count) if labels is None else np.flatnonzero(labels == label)
            part = described if labels is None else described.rows(torch.from_numpy(rows))
            members = [self._members(side, gallery, label) for side, gallery in enumerate(galleries)]
            sides = [side for side in (0, 1) if len(members[side])]
            chosen = [
                galleries[side] if label is None else galleries[side].rows(torch.from_numpy(members[side]))
                for side in sides
            ]
            own = [(None, None) if (of := groups[side]) is None else (of[members[side]], of[rows]) for side in sides]
            for side, (found, nearest) in zip(sides, nearest_by_all(chosen, part, own), strict=True):
                distances[side, :, rows] = found.T.numpy()
                if side == 0:
                    indices[:, rows] = np.where(nearest.numpy() < 0, -1, members[side][nearest.numpy()])
        to_train = distances[0, :3].copy()
        distances[:, 2] = without_noise(distances[:, 2], self._train.frame.block_noise(described).double().numpy())
        log = np.log(np.clip(distances, _SMALLEST, None))
        with np.errstate(invalid="ignore"):
            return _Ratios(log[1] - log[0], indices, to_train)

    def _members(self, side: int, gallery: Gallery, label: int | None) -> npt.NDArray[np.int64]:
        if label is None or self._labels is None:
            return np.arange(len(gallery))
        return np.flatnonzero(self._labels[side] == label)

    def __repr__(self) -> str:
        return (
            f"CopyDetector({len(self._train)} training and {len(self._held_out)} held-out images, "
            f"false_alarm_rate={self.false_alarm_rate:g})"
        )


def _checked(labels: Labels, described: Described, name: str) -> npt.NDArray[np.int64]:
    array = np.asarray(labels)
    if array.shape != (len(described),) or array.dtype.kind not in "iub":
        raise ConfigurationError(
            f"`labels` must hold one integer for each of the {len(described)} images of `{name}`, got {array.dtype} of "
            f"shape {array.shape}. Pass class numbers: labels.long()."
        )
    return array.astype(np.int64)


def _quantile(values: Floats, weight: Floats, fraction: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) >= fraction * weight.sum() * (1 - 1e-9)
    return float(values[order][reached.argmax()])


def _numbered(patients: Sequence[str], count: int) -> npt.NDArray[np.int64]:
    if len(patients) != count:
        raise ConfigurationError(
            f"`patients` must hold one name for each of the {count} held-out images, got {len(patients)}. Repeat the "
            "name of a patient for each image."
        )
    return np.unique(np.asarray([str(name) for name in patients]), return_inverse=True)[1].astype(np.int64)
