"""The verdict on a synthetic set: rules that can be read, each with its reason in words.

The limits are conventions: a measure that keeps less than half of what real images reach among themselves is a failure,
less than four fifths a warning. Those on copies are statistical: three standard errors above what chance explains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torchgenaug.metrics.features.coarse import coarse_name
from torchgenaug.metrics.measurement import Measurement
from torchgenaug.trust.copies.report import CopyReport
from torchgenaug.trust.leaks.check import LeakReport
from torchgenaug.trust.report.label_intensity import LabelIntensity

Verdict: TypeAlias = Literal["use", "caution", "cannot judge", "do not use"]
"""From the best to the worst."""

VERDICTS: tuple[Verdict, ...] = ("use", "caution", "cannot judge", "do not use")
FEWEST = 50
"""Images of each set below which nothing is said about quality: halves of 25 have wide intervals."""

_FAILS, _WARNS = 0.5, 0.8  # of what real images reach against real images
_REPEATS_FAIL, _REPEATS_WARN = 0.2, 0.05  # 0.01 is expected
_BLURRED, _SOFT, _NOISY = 0.2, 0.5, 2.0  # power of fine detail, synthetic over real
_LABEL_FAILS, _LABEL_WARNS = 0.5, 0.2  # of the images, outside of the central 98 % of real ones; 0.02 is expected
_BLIND_FEATURES = 0.2  # of real images among themselves; those of all features here reach more than 0.9
_TOLD_APART = 0.8  # area under the curve; 0.5 is guessing
_BLIND = 0.05  # of the held-out images are training images: a copy of one is as near to held-out as to training images
_NEARER = -5.0  # Z_U of the whole set


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: ``"copies"``, ``"real images"``, ``"leak"``, ``"collapse"``, ``"blur"``, ``"noise"``, ``"realism"``,
            ``"detail"``, ``"variety"``, ``"recognisable"``, ``"intensity"``, ``"no held-out images"``,
            ``"few images"``, ``"features"`` or ``"good"``.
        verdict: what it alone would decide.
        reason: in words.
    """

    kind: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Facts:
    """What the verdict rests on.

    Attributes:
        measures: name with features → result.
        num_real: real images.
        num_synthetic: synthetic images.
        copies: calibrated on held-out images; None without these.
        similar: synthetic images that are near-duplicates of a training image, by a limit that is not calibrated.
        identical: synthetic images that equal a training image, pixel by pixel.
        repeats: share of the synthetic images that repeat another one; 0.01 is expected of real images.
        detail: power of fine detail, synthetic over real.
        label_intensities: median intensity in each class of the masks; empty without masks.
        num_held_out: held-out images.
        most: images of each set that the measures look at, at most.
        leaks: held-out images that training, or the synthetic set, has seen.
    """

    measures: Mapping[str, Measurement]
    num_real: int
    num_synthetic: int
    copies: CopyReport | None
    similar: int
    identical: int
    repeats: float
    detail: float
    leaks: LeakReport
    num_held_out: int = 0
    label_intensities: tuple[LabelIntensity, ...] = ()
    most: int = 5000


def judge(facts: Facts) -> list[Finding]:
    """What was found, worst first; the first one decides. Never empty."""
    privacy, quality = _privacy(facts), _quality(facts)
    findings = [*privacy, *quality]
    if not quality:
        findings += [Finding("good", "use", text) for text in _good_quality(facts)]
    if not privacy:
        findings += [Finding("good", "use", text) for text in _no_copies(facts)]
    return sorted(findings, key=lambda finding: -VERDICTS.index(finding.verdict))


def _privacy(facts: Facts) -> list[Finding]:
    found, n = [], facts.num_synthetic
    if 2 * facts.identical >= n:
        text = f"These are training images: {facts.identical} of {n} equal one of them, pixel by pixel."
        found.append(Finding("real images", "do not use", text))
    elif facts.identical:
        text = f"{facts.identical} of {n} images equal a training image, pixel by pixel."
        found.append(Finding("copies", "do not use", text))
    for kind in dict.fromkeys(leak.kind for leak in facts.leaks.leaks):
        count = sum(leak.kind == kind for leak in facts.leaks.leaks)
        who = {"content": "the training images hold", "synthetic content": "the synthetic images repeat"}.get(
            kind, "the model was trained on"
        )
        by = f" (by {kind})" if kind in ("id", "patient") else ""
        text = f"{who.capitalize()} {count} of the held-out images{by}: a score on held-out data would prove nothing."
        verdict: Verdict = "do not use"
        if kind == "content":
            is_blind = count > _BLIND * facts.num_held_out
            verdict = "cannot judge" if is_blind else "caution"
            text += " Copies of these images cannot be recognised as such." if is_blind else ""
        found.append(Finding("leak", verdict, text))
    copies = facts.copies
    if copies is None or not copies.can_judge:
        if facts.similar > facts.identical:
            text = f"{facts.similar} of {n} images are nearly the same as a training image."
            found.append(Finding("copies", "do not use", text))
        have = facts.num_held_out if copies is None else copies.num_calibration
        needed = 99 if copies is None else round(1 / copies.false_alarm_rate) - 1
        text = (
            f"Whether images are copies of training images is unknown: {have} held-out real images or patients, "
            f"{needed} are needed to know how much likeness is chance."
        )
        return [*found, Finding("no held-out images", "cannot judge", text)]
    flagged, expected = int(copies.flagged.sum()), copies.expected_by_chance
    # Binomial, and the chance of the calibration set itself: its tail rests on few images.
    error = math.sqrt(expected + expected**2 / max(1.0, copies.num_calibration * copies.false_alarm_rate))
    if flagged > expected + 3 * error and 2 * facts.identical < n:
        text = (
            f"{flagged} of {n} images look like copies of training images; {expected:.1f} would by chance. The model "
            "has memorised, and may give away patients."
        )
        found.append(Finding("copies", "do not use", text))
    elif copies.z_score < _NEARER and facts.detail > _SOFT and not facts.identical:
        text = (
            "On the whole the images lie nearer to training images than unseen real ones do "
            f"(Z_U {copies.z_score:.1f}; 0 is expected)."
        )
        found.append(Finding("copies", "caution", text))
    return found


def _quality(facts: Facts) -> list[Finding]:
    counts = [min(each, facts.most) for each in (facts.num_synthetic, facts.num_real)]
    if min(counts) < FEWEST:
        text = (
            f"Quality cannot be judged from {counts[0]} synthetic and {counts[1]} real images; at least {FEWEST} of "
            "each are needed."
        )
        return [Finding("few images", "cannot judge", text)]
    found = [
        Finding(
            "features",
            "cannot judge",
            f"These features cannot judge: real images reach {result.floor:.0%} among themselves ({result.name}).",
        )
        for start in ("precision", "coverage")
        for result in decisive(facts.measures, start)
        if result.floor is not None and not result.floor >= _BLIND_FEATURES
    ]
    is_collapsed = facts.repeats >= _REPEATS_FAIL
    # Before repeats: blurred images lie near each other because of the blur.
    if facts.detail < _SOFT:
        text = f"The images are blurred: they hold {facts.detail:.0%} of the fine detail (as power) of real ones."
        found.append(Finding("blur", "do not use" if facts.detail < _BLURRED else "caution", text))
    if facts.repeats >= _REPEATS_WARN:
        text = f"{facts.repeats:.0%} of the images repeat another one; 1% of real images come as near to each other."
        text = f"The model has collapsed: {text}" if is_collapsed else text
        found.append(Finding("collapse", "do not use" if is_collapsed else "caution", text))
    if facts.detail > _NOISY:
        text = f"The images are noisy: they hold {facts.detail:.1f} times the fine detail (as power) of real ones."
        found.append(Finding("noise", "caution", text))
    for each in facts.label_intensities:
        if each.outside >= _LABEL_WARNS:
            text = (
                f"Class {each.label} of the masks has another brightness: median {each.synthetic[1]:.3g}, of real "
                f"images {each.real[1]:.3g}; {each.outside:.0%} of the images lie outside of {each.real[0]:.3g} to "
                f"{each.real[2]:.3g}, where 98% of real ones lie."
            )
            found.append(Finding("intensity", "do not use" if each.outside >= _LABEL_FAILS else "caution", text))
    found += [] if is_collapsed else [*_realism(facts), *_variety(facts)]
    for result in facts.measures.values():
        if result.name.startswith("two-sample AUC") and result.low > _TOLD_APART:
            text = (
                f"A simple classifier tells synthetic from real images: AUC {result.value:.2f}, 0.5 is guessing "
                f"({result.name})."
            )
            found.append(Finding("recognisable", "caution", text))
    return found


def _realism(facts: Facts) -> list[Finding]:
    found = []
    for result in decisive(facts.measures, "precision"):
        if (share := _share(result)) < _WARNS:
            text = (
                f"Not all images are realistic: {result.value:.0%} lie among real ones, of real images "
                f"{result.floor:.0%} do ({result.name})."
            )
            found.append(Finding("realism", "do not use" if share < _FAILS else "caution", text))
    for result in _with_detail(facts.measures, "precision"):
        if _share(result) < _WARNS and not found:
            text = (
                f"Fine detail differs: with it {result.value:.0%} of the images lie among real ones, of real images "
                f"{result.floor:.0%} do ({result.name}). Their structure is right."
            )
            found.append(Finding("detail", "caution", text))
    return found


def _variety(facts: Facts) -> list[Finding]:
    return [
        Finding(
            "variety",
            "do not use" if share < _FAILS else "caution",
            f"Variety is missing: {result.value:.0%} of the real images have synthetic ones near them, "
            f"{result.floor:.0%} have other real ones ({result.name}).",
        )
        for result in decisive(facts.measures, "coverage")
        if (share := _share(result)) < _WARNS
    ]


def decisive(measures: Mapping[str, Measurement], start: str) -> list[Measurement]:
    """The results of a measure that decide.

    Where features were also taken of averaged images, only these: real images that are equally sharp lie so close
    together that a slight blur, which has a rule of its own, would put every synthetic image outside.
    """
    others = _with_detail(measures, start)
    return [each for each in measures.values() if each.name.startswith(f"{start}[") and each not in others]


def _with_detail(measures: Mapping[str, Measurement], start: str) -> list[Measurement]:
    """Those that accompany a result of averaged images."""
    return [
        each
        for each in measures.values()
        if each.name == f"{start}[{each.features}]" and f"{start}[{coarse_name(each.features or '')}]" in measures
    ]


def _share(result: Measurement) -> float:
    """Of what real images reach."""
    return 1.0 if not result.floor else result.value / result.floor


def _good_quality(facts: Facts) -> list[str]:
    return [
        f"{result.value:.0%} of the {words}, of real images {result.floor:.0%} ({result.name})."
        for start, words in (("precision", "images lie among real ones"), ("coverage", "real images are covered"))
        for result in decisive(facts.measures, start)
        if result.floor is not None
    ]


def _no_copies(facts: Facts) -> list[str]:
    copies = facts.copies
    found = 0 if copies is None else int(copies.flagged.sum())
    expected = 0.0 if copies is None else copies.expected_by_chance
    return [
        f"No more images look like copies than chance explains: {found} of {facts.num_synthetic}, {expected:.1f} "
        "expected.",
        "No overlap of held-out data with training or synthetic images was found.",
    ]
