"""Which measures belong to which kind of features."""

from __future__ import annotations

from torchgenaug.metrics.sets.classifier import TWO_SAMPLE_AUC
from torchgenaug.metrics.sets.divergence import INTENSITY_WASSERSTEIN, JENSEN_SHANNON, KLD, REVERSE_KLD
from torchgenaug.metrics.sets.frechet import FID
from torchgenaug.metrics.sets.kernels import KID, MMD
from torchgenaug.metrics.sets.manifold import COVERAGE, DENSITY, PRECISION, RECALL
from torchgenaug.metrics.sets.one_nearest import ONE_NEAREST_NEIGHBOUR
from torchgenaug.metrics.sets.probabilities import INCEPTION_SCORE, MODE_SCORE
from torchgenaug.metrics.sets.vendi import VENDI
from torchgenaug.metrics.sets.wasserstein import SLICED_WASSERSTEIN, WASSERSTEIN

FEATURE_MEASURES = (
    FID,
    KID,
    MMD,
    WASSERSTEIN,
    SLICED_WASSERSTEIN,
    PRECISION,
    RECALL,
    DENSITY,
    COVERAGE,
    ONE_NEAREST_NEIGHBOUR,
    TWO_SAMPLE_AUC,
    VENDI,
)
"""For vectors such as those of `RadiomicsFeatures`, `EfficientNetFeatures` or your own network. `FID_INFINITY`,
`ENERGY_DISTANCE` and `FEATURE_KLD` are left out: the first takes six times as long, the others repeat what these
say."""

COARSE_MEASURES = (PRECISION, RECALL, DENSITY, COVERAGE)
"""Further measures for `CoarseFeatures`: whether the structure is right, and all of it is there."""

HISTOGRAM_MEASURES = (KLD, REVERSE_KLD, JENSEN_SHANNON, INTENSITY_WASSERSTEIN)
"""For `HistogramFeatures`."""

PROBABILITY_MEASURES = (INCEPTION_SCORE, MODE_SCORE)
"""For class probabilities: ``EfficientNetFeatures(output="probabilities")`` or a classifier that ends in a softmax."""
