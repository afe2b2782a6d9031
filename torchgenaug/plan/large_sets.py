"""`LargeSets`: the draws of sets too large for a table of each epoch."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug import seeding
from torchgenaug.seeding import Int64Array


class LargeSets:
    """One shuffle of the real and one of the synthetic set, which all draws go through in order, again and again.

    Memory is one permutation of each set, made where it is first needed; none of it is pickled.

    Args:
        num_real: samples of the real set.
        num_synthetic: samples of the synthetic source.
        real_key: key of the shuffle of the real set.
        synthetic_key: key of that of the source.
    """

    def __init__(self, num_real: int, num_synthetic: int, real_key: int, synthetic_key: int) -> None:
        self.num_real, self.num_synthetic = num_real, num_synthetic
        self._real_key, self._synthetic_key = real_key, synthetic_key

    def draws_at(self, index: Int64Array, first: int) -> Int64Array:
        """Which draw leaves out each real sample, counted from draw number `first`: (n,) in [0, num_real)."""
        draw = self._real_rank[index].astype(np.int64) - first % self.num_real
        draw[draw < 0] += self.num_real
        return draw

    def positions(self, draw: Int64Array, first: int) -> Int64Array:
        """Where each draw, counted from draw number `first`, reads the source: (n,)."""
        read = (draw + first % self.num_synthetic) % self.num_synthetic
        return self._synthetic_order[read].astype(np.int64)

    @cached_property
    def _real_rank(self) -> npt.NDArray[np.int64 | np.int32]:
        """Real index → its place in the shuffle."""
        return _small(seeding.permutation(self._real_key, self.num_real))

    @cached_property
    def _synthetic_order(self) -> npt.NDArray[np.int64 | np.int32]:
        return _small(seeding.permutation(self._synthetic_key, self.num_synthetic))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_real_rank", "_synthetic_order")}


def _small(order: Int64Array) -> npt.NDArray[np.int64 | np.int32]:
    """In half the memory where the numbers are small enough, as they almost always are."""
    return order.astype(np.int32) if len(order) <= np.iinfo(np.int32).max else order
