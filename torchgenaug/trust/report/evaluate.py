"""`evaluate`: whether synthetic images are good, are copies, or leak."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.contracts import trained_on_of
from torchgenaug.errors import ConfigurationError, SmallSampleWarning, TooFewImagesError
from torchgenaug.metrics.features.coarse import CoarseFeatures
from torchgenaug.metrics.features.contract import Features
from torchgenaug.metrics.features.histogram import HistogramFeatures
from torchgenaug.metrics.features.radiomics import RadiomicsFeatures
from torchgenaug.metrics.measurement import Measurement
from torchgenaug.metrics.sets.compare import compare_sets
from torchgenaug.metrics.sets.feature_sets import FeatureSets
from torchgenaug.metrics.sets.measure import SetMeasure
from torchgenaug.metrics.sets.standard import COARSE_MEASURES, FEATURE_MEASURES, HISTOGRAM_MEASURES
from torchgenaug.trust.copies.describe import Described, describe
from torchgenaug.trust.leaks.check import LeakReport, check_leaks
from torchgenaug.trust.report.copying import Copying, find_copying, repeats_of_held_out
from torchgenaug.trust.report.evaluation import Evaluation
from torchgenaug.trust.report.image_set import ImageSet, Rows, check_alike, common_range, spread
from torchgenaug.trust.report.label_intensity import label_intensities
from torchgenaug.trust.report.picture_data import FeatureMap, Pictures
from torchgenaug.trust.report.profiles import Profile, detail_ratio, profile
from torchgenaug.trust.report.repeats import EXPECTED, find_repeats
from torchgenaug.trust.report.translations import translation_measures
from torchgenaug.trust.report.verdict import Facts, decisive, judge

Progress = Callable[[str], None]
"""Called with what is done next, at most `NUM_STEPS` times."""

NUM_STEPS = 6
_UNSEEN = 0.01  # of the value range: a difference in brightness that nobody sees
_DRAWN, _GUESSED, _PROFILED, _MAPPED = 24, 10, 500, 1500  # images


def evaluate(
    synthetic: Any,
    real: Any,
    held_out: Any = None,
    *,
    held_out_synthetic: Any = None,
    features: Features | Sequence[Features] | None = None,
    value_range: tuple[float, float] | None = None,
    false_alarm_rate: float = 0.01,
    most: int = 5000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Judges a set of synthetic images against the real ones that its model was trained on.

    Deterministic: the same images and seed give the same result. The global random state stays as it is.

    Args:
        synthetic: a tensor (n, channels, *spatial), a data set with an image in each sample, a `ShardSource`, ….
        real: the real images that the model was trained on, the same; or `torchgenaug.recipes.load_data(...)`.
        held_out: real images that the model never saw. Without them nobody can say whether a likeness is a copy or
            chance: the verdict is "cannot judge" at best.
        held_out_synthetic: of a model that is conditioned on masks or source images: images that it made from those of
            `held_out`. They show how much likeness the condition explains, which is then no copying. Images with
            classes are compared within their class, where all three sets state them. Where samples of it, or of
            `synthetic`, have the ``source`` of a held-out sample, PSNR and SSIM compare them with its image.
        features: what images are compared by; None: `RadiomicsFeatures`. Intensity histograms are compared in any case;
            `RadiomicsFeatures` also on averaged images, see `CoarseFeatures`.
        value_range: intensities that are black and white; None: what `real` states, or else its smallest and largest.
        false_alarm_rate: fraction of innocent images that may look like copies, in (0, 0.5].
        most: images of each set that measures look at, evenly spread; the search for copies looks at all.
        seed: of the random halves that intervals come from.
        progress: called at the start of each step.

    Returns:
        Verdict, reasons, measures, copies, duplicates and leaks; `Evaluation.save` writes the report.

    Raises:
        EmptyDatasetError: a set without images.
        FieldMismatchError: images of other shapes, channels or ranges, with the transform that aligns them, or features
            that are not finite.
        ConfigurationError: images that are not finite, or unfit arguments.

    Example:
        >>> import torch
        >>> images = torch.rand(300, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> evaluation = evaluate(images[:100], images[100:200], images[200:])
        >>> evaluation.verdict
        'use'
        >>> evaluate(images[100:200], images[100:200], images[200:]).reasons[0]
        'These are training images: 100 of 100 equal one of them, pixel by pixel.'
    """
    if isinstance(most, bool) or not isinstance(most, int) or most < 2:
        raise ConfigurationError(f"`most` must be an integer of at least 2, got {most!r}. One image has no spread.")
    extractors = _checked_features(features)
    tell = progress or (lambda step: None)
    tell("reading images")
    sets = {"real": ImageSet.of(real, "real"), "synthetic": ImageSet.of(synthetic, "synthetic")}
    for name, dataset in (("held_out", held_out), ("held_out_synthetic", held_out_synthetic)):
        if dataset is not None:
            sets[name] = ImageSet.of(dataset, name)
    train, made = sets["real"], sets["synthetic"]
    for name, other in sets.items():
        if name != "real":
            check_alike(train, other)
    limits = common_range(train, [each for name, each in sets.items() if name != "real"], value_range)
    notes = [
        f"Measures look at {most} of {len(each)} {each.name} images, evenly spread."
        for each in (train, made)
        if len(each) > most
    ]
    tell("measures")
    measures, maps = _measure(train, made, extractors, limits, most, seed, notes)
    tell("intensities and spatial frequencies")
    profiles = (
        profile(Rows(train.images, train.rows(_PROFILED)), limits),
        profile(Rows(made.images, made.rows(_PROFILED)), limits),
    )
    tell("copies")
    searched, described = describe(train.images, name="real"), describe(made.images, name="synthetic")
    innocent = sets.pop("held_out_synthetic", None)
    copying = find_copying(train, made, sets.get("held_out"), (searched, described), limits, false_alarm_rate, innocent)
    repeats = find_repeats(described, searched, seed=seed)
    tell("leaks")
    leaks = _leaks(synthetic, real, held_out, described)
    tell("verdict")
    tissues = label_intensities(
        real, train.rows(_PROFILED), synthetic, made.rows(_PROFILED), _UNSEEN * (limits[1] - limits[0])
    )
    translated = (
        {}
        if held_out is None
        else translation_measures(
            [each for each in (held_out_synthetic, synthetic) if each is not None], held_out, limits, seed
        )
    )
    if translated:
        notes.append(
            "Translated held-out sources are compared with their true images; the ceiling is the value against the "
            "image of another source."
        )
    facts = Facts(
        measures=measures,
        num_real=len(train),
        num_synthetic=len(made),
        most=most,
        num_held_out=len(sets["held_out"]) if "held_out" in sets else 0,
        copies=copying.report,
        similar=copying.similar,
        identical=copying.identical,
        repeats=repeats.share,
        detail=detail_ratio(profiles[1], profiles[0]),
        leaks=leaks,
        label_intensities=tissues,
    )
    return Evaluation(
        findings=tuple(judge(facts)),
        measures=measures | translated,
        copies=copying.to_json(),
        duplicates={"share": repeats.share, "expected": EXPECTED, "pairs": [list(pair) for pair in repeats.pairs]},
        leaks=leaks.to_json(),
        label_intensities=tuple(each._asdict() for each in tissues),
        trilemma=trilemma(measures, synthetic),
        counts={name: len(each) for name, each in sets.items()},
        notes=(*notes, *leaks.not_compared),
        pictures=_pictures(train, made, copying, profiles, maps, limits, seed),
    )


def trilemma(measures: Mapping[str, Measurement], synthetic: Any) -> dict[str, float | None]:
    """Quality, coverage and speed: what a generator trades against each other.

    Quality and coverage are the smallest precision and coverage over all features that decide the verdict, as a share
    of what real images reach; speed is known of images that were generated here (samples per second, on this machine).

    References:
        Xiao, Kreis, Vahdat (2022). Tackling the generative learning trilemma with denoising diffusion GANs. ICLR.
    """
    found: dict[str, float | None] = {}
    for name, start in (("quality", "precision"), ("coverage", "coverage")):
        shares = [each.value / each.floor for each in decisive(measures, start) if each.floor]
        found[name] = min(shares, default=None)
    seconds = getattr(synthetic, "seconds", None)
    return found | {"samples_per_s": len(synthetic) / seconds if seconds else None}


def _checked_features(features: Features | Sequence[Features] | None) -> tuple[Features, ...]:
    found = (features,) if isinstance(features, Features) else tuple(features or (RadiomicsFeatures(),))
    for each in found:
        if not isinstance(each, Features):
            raise ConfigurationError(
                f"`features` must be features (a name, sha256, standardize, and callable on images), got {each!r}. "
                "Wrap a network: torchgenaug.metrics.NetworkFeatures(network, name='mine')."
            )
    return found


def _measure(
    real: ImageSet,
    synthetic: ImageSet,
    features: Sequence[Features],
    limits: tuple[float, float],
    most: int,
    seed: int,
    notes: list[str],
) -> tuple[dict[str, Measurement], tuple[FeatureMap, ...]]:
    results: dict[str, Measurement] = {}
    maps = []
    rows = real.rows(most)
    patients = [real.patients[row] for row in rows] if real.patients else None
    coarse = [CoarseFeatures(each) for each in features if isinstance(each, RadiomicsFeatures)]
    for each in (*features, *coarse, HistogramFeatures()):
        vectors = FeatureSets.extract(
            each,
            Rows(real.images, rows),
            Rows(synthetic.images, synthetic.rows(most)),
            value_range=limits,
            real_groups=patients,
            seed=seed,
        )
        results |= _compared(vectors, _suite(each), seed, notes)
        if each in features:
            maps.append(_plane(vectors))
    return results, tuple(maps)


def _suite(features: Features) -> Sequence[SetMeasure]:
    if isinstance(features, HistogramFeatures):
        return HISTOGRAM_MEASURES
    return COARSE_MEASURES if isinstance(features, CoarseFeatures) else FEATURE_MEASURES


def _compared(sets: FeatureSets, measures: Sequence[SetMeasure], seed: int, notes: list[str]) -> dict[str, Measurement]:
    """All measures that the number of images allows; the others are named in `notes`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)  # stands in each result's cautions
        try:
            return compare_sets(sets, measures, seed=seed)
        except TooFewImagesError:
            results: dict[str, Measurement] = {}
            for measure in measures:
                try:
                    results |= compare_sets(sets, [measure], seed=seed)
                except TooFewImagesError as error:
                    notes.append(f"{measure.name}[{sets.name}] is left out: {error}")
            return results


def _plane(sets: FeatureSets) -> FeatureMap:
    """Both sets in the two directions in which the real features vary most (principal components)."""
    real, synthetic = (each[spread(len(each), _MAPPED)].double() for each in (sets.real, sets.synthetic))
    centre = real.mean(0)
    directions = torch.linalg.eigh((real - centre).T @ (real - centre)).eigenvectors[:, -2:].flip(1)
    if directions.shape[1] < 2:  # a single feature
        directions = torch.nn.functional.pad(directions, (0, 1))
    return FeatureMap((real - centre) @ directions, (synthetic - centre) @ directions, sets.name)


def _leaks(synthetic: Any, real: Any, held_out: Any, described: Described) -> LeakReport:
    if held_out is None:
        return LeakReport((), ("Leaks were not looked for: there are no held-out images.",))
    # Without a record there is nothing to compare by name, which the report says: no warning is needed.
    source = synthetic if trained_on_of(synthetic) is not None else None
    report = check_leaks(source, {"held_out": held_out}, train=real, max_synthetic=0)
    unknown = () if source is not None else ("Nobody knows by name what the model was trained on.",)
    return LeakReport((*report.leaks, *repeats_of_held_out(described, held_out)), (*report.not_compared, *unknown))


def _pictures(
    real: ImageSet,
    synthetic: ImageSet,
    copying: Copying,
    profiles: tuple[Profile, Profile],
    maps: tuple[FeatureMap, ...],
    limits: tuple[float, float],
    seed: int,
) -> Pictures:
    def some(images: ImageSet, rows: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(torch.as_tensor(images.images[row]).clone() for row in rows)

    unmarked = [
        (image, images is synthetic)
        for images in (real, synthetic)
        for image in some(images, seeding.permutation(seed, len(images))[:_GUESSED].tolist())
    ]
    return Pictures(
        real=some(real, real.rows(_DRAWN)),
        synthetic=some(synthetic, synthetic.rows(_DRAWN)),
        puzzle=tuple(unmarked[row] for row in seeding.permutation(seed, len(unmarked)).tolist()),
        pairs=copying.drawn,
        profiles=profiles,
        maps=maps,
        value_range=limits,
        quarter_turns=real.quarter_turns or synthetic.quarter_turns,
    )
