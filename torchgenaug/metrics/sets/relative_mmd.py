"""Relative MMD test: which of two synthetic sets is closer to the real one, with a p-value.

The review's Table 5 calls this "Mode score". Che's Mode Score is another thing: `mode_score`.

References:
    Bounliphone, Belilovsky, Blaschko, Antonoglou, Gretton (2016). A test of relative similarity for model selection in
        generative models. ICLR.
    Serfling (1980). Approximation theorems of mathematical statistics. Wiley, section 5.5 (normal limit of
    U-statistics).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError, TooFewImagesError
from torchgenaug.metrics.distances import check_same_features, row_blocks
from torchgenaug.metrics.sets.kernels import GaussianKernel, Kernel, median_distance


class RelativeTest(NamedTuple):
    """Result of `relative_mmd_test`.

    Attributes:
        difference: MMD²(real, first) − MMD²(real, second); negative: the first is closer.
        standard_error: of the difference.
        p_value: of the hypothesis that the first is at most as far as the second. Below 0.05: the second is closer.
        n: images of each set that entered.
    """

    difference: float
    standard_error: float
    p_value: float
    n: int


def relative_mmd_test(real: Tensor, first: Tensor, second: Tensor, *, kernel: Kernel | None = None) -> RelativeTest:
    """Tests whether `second` is closer to `real` than `first` is.

    The difference of the two unbiased MMD² is a U-statistic over triples (real, first, second), approximately
    normal; its variance is estimated from the triples' mean kernels. Of larger sets a fixed random part enters, as many
    images as the smallest has.

    Args:
        real: (count, features).
        first: (others, features), of one model.
        second: (others, features), of another model.
        kernel: by default Gaussian, with the real images' median distance as bandwidth.

    Raises:
        TooFewImagesError: fewer than 10 images in a set.
        ConfigurationError: the two synthetic sets are the same.
    """
    check_same_features(real, first)
    check_same_features(real, second)
    count = min(len(real), len(first), len(second))
    if count < 10:
        raise TooFewImagesError(f"The relative MMD test needs at least 10 images in each set, got {count}.")
    # Rows in the order of a data set are often sorted by class: a cut would take some classes only.
    x, y, z = (
        each[torch.from_numpy(seeding.permutation(key, len(each))[:count].copy())].double()
        for key, each in enumerate((real, first, second))
    )
    if first.equal(second):
        raise ConfigurationError("`first` and `second` must differ, got the same set twice. There is nothing to test.")
    kernel = kernel or GaussianKernel((median_distance(x),))
    means: list[float] = []
    for rows in row_blocks(count):
        total = torch.zeros(rows.stop - rows.start, dtype=torch.float64, device=x.device)
        for columns in row_blocks(count):
            block = (
                kernel(y[rows], y[columns])
                - kernel(x[rows], y[columns])
                - kernel(y[rows], x[columns])
                - kernel(z[rows], z[columns])
                + kernel(x[rows], z[columns])
                + kernel(z[rows], x[columns])
            )
            if rows == columns:
                block.fill_diagonal_(0)
            total = total + block.sum(1)
        means.extend((total / (count - 1)).tolist())
    difference = math.fsum(means) / count
    variance = 4 * sum((mean - difference) ** 2 for mean in means) / (count - 1) / count
    error = math.sqrt(variance)
    return RelativeTest(difference, error, 1 - NormalDist().cdf(difference / max(error, 1e-300)), count)
