"""Measures of synthetic images: against real sets, against a paired reference, and of label maps.

``features/`` (images → vectors: radiomics-like, EfficientNet-Lite0, your own network) · ``sets/`` (a synthetic against
a real set of vectors: FID, KID, precision, recall, …) · ``measurement`` (a value, its interval, floor and ceiling).

Names are imported when they are first used. Measures need no extra except where their docstring names ``metrics``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchgenaug.metrics.distances import nearest as nearest
    from torchgenaug.metrics.features.contract import Features as Features
    from torchgenaug.metrics.features.contract import extract_features as extract_features
    from torchgenaug.metrics.features.efficientnet import EfficientNetFeatures as EfficientNetFeatures
    from torchgenaug.metrics.features.network import NetworkFeatures as NetworkFeatures
    from torchgenaug.metrics.features.radiomics import RadiomicsFeatures as RadiomicsFeatures
    from torchgenaug.metrics.features.slices import SliceFeatures as SliceFeatures
    from torchgenaug.metrics.measurement import Measurement as Measurement
    from torchgenaug.metrics.sets.compare import compare_sets as compare_sets
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

_HOMES = {
    "COVERAGE": "sets.manifold",
    "DENSITY": "sets.manifold",
    "ENERGY_DISTANCE": "sets.kernels",
    "FID": "sets.frechet",
    "FID_INFINITY": "sets.frechet",
    "KID": "sets.kernels",
    "MMD": "sets.kernels",
    "PRECISION": "sets.manifold",
    "RECALL": "sets.manifold",
    "EfficientNetFeatures": "features.efficientnet",
    "FeatureSets": "sets.feature_sets",
    "Features": "features.contract",
    "Measurement": "measurement",
    "NetworkFeatures": "features.network",
    "RadiomicsFeatures": "features.radiomics",
    "SetMeasure": "sets.measure",
    "SliceFeatures": "features.slices",
    "compare_sets": "sets.compare",
    "extract_features": "features.contract",
    "nearest": "distances",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
