"""`keep_varied`: a small selection that covers the variety of a source."""

from __future__ import annotations

import numpy as np
import torch

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.features.contract import Features, extract_features
from torchgenaug.sources.selected import SelectedSource
from torchgenaug.trust.filters.keep import KeptSource
from torchgenaug.trust.filters.rules import rule_digest


def keep_varied(
    source: SyntheticSource,
    features: Features,
    count: int,
    *,
    field: str = "image",
    value_range: tuple[float, float] = (0.0, 1.0),
) -> KeptSource:
    """The greedy selection of samples that lie far from each other: each next one is the farthest from all before.

    The largest distance of any sample to the selection is at most twice the best possible. Deterministic: it begins
    with the sample nearest to the mean. Memory is that of the features.

    Args:
        source: one whose content does not change.
        features: see `torchgenaug.metrics`.
        count: how many samples to keep.
        field: the image.
        value_range: intensities that mean black and white.

    Returns:
        The kept samples in their order; ``scores`` are 1 over the rank in which a sample was chosen, 0 for the others.

    Raises:
        ConfigurationError: `count` outside [1, len(source)].

    References:
        Gonzalez (1985). Clustering to minimize the maximum intercluster distance. Theor. Comput. Sci. 38, 293-306.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(source):
        raise ConfigurationError(f"`count` must be an integer in [1, {len(source)}], got {count!r}.")
    SelectedSource(source, [0])  # refuses a source that changes
    parts = [
        extract_features(features, source.read(positions)[field].cpu(), value_range=value_range)
        for positions in np.array_split(np.arange(len(source)), -(-len(source) // 256))
    ]
    vectors = torch.cat(parts).double()
    if features.standardize:
        vectors = vectors / vectors.std(0).clamp(min=1e-12)
    chosen = [int((vectors - vectors.mean(0)).norm(dim=1).argmin())]
    distance = (vectors - vectors[chosen[0]]).norm(dim=1)
    while len(chosen) < count:
        distance[chosen[-1]] = -1.0  # never twice, even among equal samples
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (vectors - vectors[chosen[-1]]).norm(dim=1))
    scores = np.zeros(len(source))
    scores[chosen] = 1 / np.arange(1, count + 1)
    rule = rule_digest("varied", features.sha256, f"{count} {field} {value_range}")
    return KeptSource(source, sorted(chosen), scores, rule, f"{count} varied samples")
