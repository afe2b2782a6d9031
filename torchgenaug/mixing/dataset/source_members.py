"""`SourceMembers`: the positions of a synthetic source by class, for mixes that keep the class balance (`match`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from torchgenaug.contracts import SyntheticSource
from torchgenaug.mixing.dataset.map_source import MapSource
from torchgenaug.plan.class_matching import ClassMembers
from torchgenaug.plan.mix_plan import MixPlan
from torchgenaug.samples.layout import SampleLayout


class SourceMembers:
    """The positions of a source by class: once, or for each epoch where the source changes with it.

    Args:
        plan: of the mix; it groups the positions.
        name: of the class field, in the real samples.
    """

    def __init__(self, plan: MixPlan, name: str) -> None:
        self._plan, self._name = plan, name
        self._latest: tuple[int, ClassMembers] | None = None

    def at(self, epoch: int, source: SyntheticSource | MapSource, layout: Callable[[], SampleLayout]) -> ClassMembers:
        """Those of `epoch`; `layout` returns that of the real samples."""
        key = epoch if hasattr(source, "set_epoch") else -1
        if self._latest is None or self._latest[0] != key:
            known = layout()
            if isinstance(source, MapSource):
                labels: npt.ArrayLike = source.labels(self._name, known)
            else:
                labels = source.column(dict(zip(known.names, known.sources, strict=True))[self._name]).numpy()
            self._latest = (key, self._plan.group(labels))
        return self._latest[1]
