"""Measures of synthetic images: against real sets, against a paired reference, and of label maps.

``features/`` (images → vectors: radiomics-like, EfficientNet-Lite0, your own network) · ``sets/`` (a synthetic against
a real set of vectors: FID, KID, precision, recall, …) · ``measurement`` (a value, its interval, floor and ceiling).

Names are imported when they are first used. Measures need no extra except where their docstring names ``metrics``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchgenaug.metrics.auc import roc_auc as roc_auc
    from torchgenaug.metrics.distances import nearest as nearest
    from torchgenaug.metrics.features.contract import Features as Features
    from torchgenaug.metrics.features.contract import extract_features as extract_features
    from torchgenaug.metrics.features.efficientnet import EfficientNetFeatures as EfficientNetFeatures
    from torchgenaug.metrics.features.histogram import HistogramFeatures as HistogramFeatures
    from torchgenaug.metrics.features.network import NetworkFeatures as NetworkFeatures
    from torchgenaug.metrics.features.radiomics import RadiomicsFeatures as RadiomicsFeatures
    from torchgenaug.metrics.features.slices import SliceFeatures as SliceFeatures
    from torchgenaug.metrics.measurement import Measurement as Measurement
    from torchgenaug.metrics.sets.classifier import TWO_SAMPLE_AUC as TWO_SAMPLE_AUC
    from torchgenaug.metrics.sets.compare import compare_sets as compare_sets
    from torchgenaug.metrics.sets.divergence import FEATURE_KLD as FEATURE_KLD
    from torchgenaug.metrics.sets.divergence import INTENSITY_WASSERSTEIN as INTENSITY_WASSERSTEIN
    from torchgenaug.metrics.sets.divergence import JENSEN_SHANNON as JENSEN_SHANNON
    from torchgenaug.metrics.sets.divergence import KLD as KLD
    from torchgenaug.metrics.sets.divergence import REVERSE_KLD as REVERSE_KLD
    from torchgenaug.metrics.sets.feature_sets import FeatureSets as FeatureSets
    from torchgenaug.metrics.sets.frechet import FID as FID
    from torchgenaug.metrics.sets.frechet import FID_INFINITY as FID_INFINITY
    from torchgenaug.metrics.sets.kernels import ENERGY_DISTANCE as ENERGY_DISTANCE
    from torchgenaug.metrics.sets.kernels import KID as KID
    from torchgenaug.metrics.sets.kernels import MMD as MMD
    from torchgenaug.metrics.sets.manifold import COVERAGE as COVERAGE
    from torchgenaug.metrics.sets.manifold import DENSITY as DENSITY
    from torchgenaug.metrics.sets.manifold import PRECISION as PRECISION
    from torchgenaug.metrics.sets.manifold import RECALL as RECALL
    from torchgenaug.metrics.sets.measure import SetMeasure as SetMeasure
    from torchgenaug.metrics.sets.one_nearest import ONE_NEAREST_NEIGHBOUR as ONE_NEAREST_NEIGHBOUR
    from torchgenaug.metrics.sets.probabilities import INCEPTION_SCORE as INCEPTION_SCORE
    from torchgenaug.metrics.sets.probabilities import MODE_SCORE as MODE_SCORE
    from torchgenaug.metrics.sets.relative_mmd import relative_mmd_test as relative_mmd_test
    from torchgenaug.metrics.sets.standard import FEATURE_MEASURES as FEATURE_MEASURES
    from torchgenaug.metrics.sets.standard import HISTOGRAM_MEASURES as HISTOGRAM_MEASURES
    from torchgenaug.metrics.sets.standard import PROBABILITY_MEASURES as PROBABILITY_MEASURES
    from torchgenaug.metrics.sets.vendi import VENDI as VENDI
    from torchgenaug.metrics.sets.wasserstein import SLICED_WASSERSTEIN as SLICED_WASSERSTEIN
    from torchgenaug.metrics.sets.wasserstein import WASSERSTEIN as WASSERSTEIN

_HOMES = {
    "COVERAGE": "sets.manifold",
    "DENSITY": "sets.manifold",
    "ENERGY_DISTANCE": "sets.kernels",
    "FEATURE_KLD": "sets.divergence",
    "FEATURE_MEASURES": "sets.standard",
    "FID": "sets.frechet",
    "FID_INFINITY": "sets.frechet",
    "HISTOGRAM_MEASURES": "sets.standard",
    "INCEPTION_SCORE": "sets.probabilities",
    "INTENSITY_WASSERSTEIN": "sets.divergence",
    "JENSEN_SHANNON": "sets.divergence",
    "KID": "sets.kernels",
    "KLD": "sets.divergence",
    "MMD": "sets.kernels",
    "MODE_SCORE": "sets.probabilities",
    "ONE_NEAREST_NEIGHBOUR": "sets.one_nearest",
    "PRECISION": "sets.manifold",
    "PROBABILITY_MEASURES": "sets.standard",
    "RECALL": "sets.manifold",
    "REVERSE_KLD": "sets.divergence",
    "SLICED_WASSERSTEIN": "sets.wasserstein",
    "TWO_SAMPLE_AUC": "sets.classifier",
    "VENDI": "sets.vendi",
    "WASSERSTEIN": "sets.wasserstein",
    "EfficientNetFeatures": "features.efficientnet",
    "FeatureSets": "sets.feature_sets",
    "Features": "features.contract",
    "HistogramFeatures": "features.histogram",
    "Measurement": "measurement",
    "NetworkFeatures": "features.network",
    "RadiomicsFeatures": "features.radiomics",
    "SetMeasure": "sets.measure",
    "SliceFeatures": "features.slices",
    "compare_sets": "sets.compare",
    "extract_features": "features.contract",
    "nearest": "distances",
    "relative_mmd_test": "sets.relative_mmd",
    "roc_auc": "auc",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
