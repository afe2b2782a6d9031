"""Maps ids to rows of real data: each pass uses every row once, reshuffled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from torchgenaug import seeding


def shuffled_rows(seed: int, ids: Sequence[int] | npt.NDArray[np.integer], length: int) -> npt.NDArray[np.int64]:
    """Which of `length` rows each id gets: (len(ids),) int64. Ids of one turn share no row."""
    turns, places = np.divmod(np.asarray(ids, dtype=np.int64), length)
    rows = np.empty(len(places), np.int64)
    for turn in np.unique(turns):
        chosen = turns == turn
        rows[chosen] = _order(seed, int(turn), length)[places[chosen]]
    return rows


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, length: int) -> npt.NDArray[np.int64]:
    return seeding.permutation(int(seeding.derive(seed, seeding.CONDITION, turn)), length)
