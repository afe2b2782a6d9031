"""`FirstSamples`: warns once where the first samples of a pool look alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torchgenaug.errors import CollapseWarning
from torchgenaug.screens import CollapseWatch
from torchgenaug.types import Batch


class FirstSamples:
    """Looks at each batch once, in order, until enough samples were seen or the alarm was given."""

    def __init__(self) -> None:
        self._watch, self._looked, self._alarm = CollapseWatch(), 0, ""

    def look(self, batch: int, ids: Sequence[int], samples: Batch) -> None:
        """Looks at batch number `batch`.

        Warns:
            CollapseWarning: the samples seen so far are all but the same.
        """
        # A pool that is moved makes samples again, which are no copies.
        if self._alarm or self._watch.is_over or batch < self._looked:
            return
        self._looked = batch + 1
        self._alarm = self._watch.add(ids, samples)
        if self._alarm:
            warnings.warn(self._alarm, CollapseWarning, stacklevel=2)
