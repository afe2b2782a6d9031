"""Measures of synthetic images: against a real set, against a paired reference, and of label maps.

``features/`` (images → vectors: radiomics-like, histograms, EfficientNet-Lite0, your own network) · ``sets/`` (a
synthetic against a real set of vectors: FID, KID, precision, recall, …) · ``pairs/`` (an image against its
reference: SSIM, PSNR, LPIPS, …) · ``labels/`` (segmentations, and intensities within labels) · ``auc`` ·
``measurement`` (a value with its interval, floor and ceiling) · ``resampling`` · ``distances``.

Names are imported when they are first used. Measures need no extra except where their docstring names ``metrics``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgenaug.lazy import lazy_exports

if TYPE_CHECKING:
    from torchgenaug.metrics.auc import roc_auc as roc_auc
    from torchgenaug.metrics.distances import nearest as nearest
    from torchgenaug.metrics.features.coarse import CoarseFeatures as CoarseFeatures
    from torchgenaug.metrics.features.contract import Features as Features
    from torchgenaug.metrics.features.contract import extract_features as extract_features
    from torchgenaug.metrics.features.efficientnet import EfficientNetFeatures as EfficientNetFeatures
    from torchgenaug.metrics.features.histogram import HistogramFeatures as HistogramFeatures
    from torchgenaug.metrics.features.network import NetworkFeatures as NetworkFeatures
    from torchgenaug.metrics.features.radiomics import RadiomicsFeatures as RadiomicsFeatures
    from torchgenaug.metrics.features.slices import SliceFeatures as SliceFeatures
    from torchgenaug.metrics.labels.compare import DICE as DICE
    from torchgenaug.metrics.labels.compare import JACCARD as JACCARD
    from torchgenaug.metrics.labels.compare import LabelMeasure as LabelMeasure
    from torchgenaug.metrics.labels.compare import compare_labels as compare_labels
    from torchgenaug.metrics.labels.compare import hausdorff_measure as hausdorff_measure
    from torchgenaug.metrics.labels.intensity import compare_label_intensities as compare_label_intensities
    from torchgenaug.metrics.labels.intensity import label_medians as label_medians
    from torchgenaug.metrics.measurement import Measurement as Measurement
    from torchgenaug.metrics.pairs.compare import compare_pairs as compare_pairs
    from torchgenaug.metrics.pairs.differences import MAE as MAE
    from torchgenaug.metrics.pairs.differences import MSE as MSE
    from torchgenaug.metrics.pairs.differences import NMSE as NMSE
    from torchgenaug.metrics.pairs.differences import PSNR as PSNR
    from torchgenaug.metrics.pairs.lpips import Lpips as Lpips
    from torchgenaug.metrics.pairs.lpips import lpips_measure as lpips_measure
    from torchgenaug.metrics.pairs.measure import PairMeasure as PairMeasure
    from torchgenaug.metrics.pairs.structure import MS_SSIM as MS_SSIM
    from torchgenaug.metrics.pairs.structure import SSIM as SSIM
    from torchgenaug.metrics.pairs.structure import UQI as UQI
    from torchgenaug.metrics.pairs.structure import VIF as VIF
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
    "DICE": "labels.compare",
    "ENERGY_DISTANCE": "sets.kernels",
    "FEATURE_KLD": "sets.divergence",
    "FEATURE_MEASURES": "sets.standard",
    "FID": "sets.frechet",
    "FID_INFINITY": "sets.frechet",
    "HISTOGRAM_MEASURES": "sets.standard",
    "INCEPTION_SCORE": "sets.probabilities",
    "INTENSITY_WASSERSTEIN": "sets.divergence",
    "JACCARD": "labels.compare",
    "JENSEN_SHANNON": "sets.divergence",
    "KID": "sets.kernels",
    "KLD": "sets.divergence",
    "MAE": "pairs.differences",
    "MMD": "sets.kernels",
    "MODE_SCORE": "sets.probabilities",
    "MSE": "pairs.differences",
    "MS_SSIM": "pairs.structure",
    "NMSE": "pairs.differences",
    "ONE_NEAREST_NEIGHBOUR": "sets.one_nearest",
    "PRECISION": "sets.manifold",
    "PROBABILITY_MEASURES": "sets.standard",
    "PSNR": "pairs.differences",
    "RECALL": "sets.manifold",
    "REVERSE_KLD": "sets.divergence",
    "SLICED_WASSERSTEIN": "sets.wasserstein",
    "SSIM": "pairs.structure",
    "TWO_SAMPLE_AUC": "sets.classifier",
    "UQI": "pairs.structure",
    "VENDI": "sets.vendi",
    "VIF": "pairs.structure",
    "WASSERSTEIN": "sets.wasserstein",
    "CoarseFeatures": "features.coarse",
    "EfficientNetFeatures": "features.efficientnet",
    "FeatureSets": "sets.feature_sets",
    "Features": "features.contract",
    "HistogramFeatures": "features.histogram",
    "LabelMeasure": "labels.compare",
    "Lpips": "pairs.lpips",
    "Measurement": "measurement",
    "NetworkFeatures": "features.network",
    "PairMeasure": "pairs.measure",
    "RadiomicsFeatures": "features.radiomics",
    "SetMeasure": "sets.measure",
    "SliceFeatures": "features.slices",
    "compare_label_intensities": "labels.intensity",
    "compare_labels": "labels.compare",
    "compare_pairs": "pairs.compare",
    "compare_sets": "sets.compare",
    "extract_features": "features.contract",
    "hausdorff_measure": "labels.compare",
    "label_medians": "labels.intensity",
    "lpips_measure": "pairs.lpips",
    "nearest": "distances",
    "relative_mmd_test": "sets.relative_mmd",
    "roc_auc": "auc",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
