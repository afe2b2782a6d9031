"""`filtered`: a mix with the synthetic samples that a rule keeps, and one with a random selection of equal size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.seeding import permutation
from torchgenaug.sources.selected import SelectedSource
from torchgenaug.study.arms import Arm, Synthetic, describe, mixed, per_split
from torchgenaug.study.splits import Split
from torchgenaug.study.transforms import BatchTransform
from torchgenaug.trust.filters.keep import KeptSource, keep
from torchgenaug.trust.filters.rules import Rule
from torchgenaug.types import Batch


def filtered(
    synthetic: Synthetic,
    rule: Callable[[Split], Rule | Callable[[Batch], Any]],
    ratio: float = 0.5,
    *,
    best: float = 0.5,
    within: str | None = None,
    fields: Sequence[str] | None = None,
    match: str | None = None,
    transform: BatchTransform | None = None,
    name: str = "filtered",
) -> list[Arm]:
    """Two arms: samples that a rule keeps, and as many drawn at random, so that a filter is not credited with luck.

    Args:
        synthetic: a `torchgenaug.contracts.SyntheticSource`, or a function `Split` → such a source.
        rule: `Split` → rule, such as `torchgenaug.trust.ClassifierConfidence` of a network that was trained on
            ``split.train``; see `torchgenaug.trust.keep`.
        ratio: synthetic fraction of both arms.
        best: fraction of the synthetic samples that is kept.
        within: an integer field, such as ``"label"``: the fraction is kept, and drawn, within each of its values.
        fields: as in `SyntheticMixDataset`.
        match: as in `SyntheticMixDataset`.
        transform: of real and synthetic samples alike.
        name: of the filtered arm; the other one is called "random selection" after it.

    Returns:
        The filtered arm, and that of the random selection.
    """
    supply = per_split(synthetic)
    kept: dict[str, KeptSource] = {}

    def filtering(split: Split) -> KeptSource:
        if split.name not in kept:
            source = supply(split)
            if not isinstance(source, SyntheticSource):
                raise ConfigurationError(
                    f"`synthetic` must be a source with fields and fingerprints, got {type(source).__name__}. A filter "
                    "reads fields by name. Use render_shards(...), or torchgenaug.testing.InMemorySource."
                )
            kept[split.name] = keep(source, rule(split), best=best, within=within)
        return kept[split.name]

    def random(split: Split) -> SelectedSource:
        source = filtering(split).source
        groups = np.zeros(len(source)) if within is None else source.column(within).numpy()
        counts = {value: int((groups[filtering(split).positions] == value).sum()) for value in np.unique(groups)}
        rows = [np.flatnonzero(groups == value)[permutation(0, int((groups == value).sum()))] for value in counts]
        return SelectedSource(
            source, np.sort(np.concatenate([r[:n] for r, n in zip(rows, counts.values(), strict=True)]))
        )

    shared: dict[str, Any] = {"fields": fields, "match": match, "transform": transform}
    known = {"synthetic": describe(synthetic), "rule": describe(rule), "best": best, "within": within}
    arms = [
        mixed(filtering, ratio, name=name, **shared),
        mixed(random, ratio, name=f"random selection ({name})", **shared),
    ]
    return [Arm(arm.name, arm.role, arm.build, arm.source, {**arm.settings, **known}) for arm in arms]
