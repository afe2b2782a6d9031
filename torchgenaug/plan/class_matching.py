"""Draws matched by class: a real sample that is left out is stood in for by a synthetic one of its own class.

Draw q stands for element q of the shuffle of the real set, and is the n-th draw of its class; it reads element n of the
shuffle of the synthetic samples of that class. So what `MixPlan` says of all samples holds class by class: any
run of draws uses those of a class equally often (±1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from torchgenaug import seeding
from torchgenaug.errors import FieldMismatchError
from torchgenaug.seeding import Int64Array


@dataclass(frozen=True, slots=True)
class ClassMembers:
    """Positions of a source grouped by class, each class in a fixed shuffle.

    Args:
        order: all positions, class by class.
        starts: where each class begins in `order`, indexed like `classes`.
        sizes: members of each class.
    """

    order: Int64Array
    starts: Int64Array
    sizes: Int64Array

    @classmethod
    def group(cls, labels: npt.ArrayLike, classes: Int64Array, seed: int) -> ClassMembers:
        """Groups positions 0, 1, … by their labels; `classes` are the sorted labels that must all be there.

        Raises:
            FieldMismatchError: a class without a single synthetic sample.
        """
        values = np.asarray(labels, dtype=np.int64).reshape(-1)
        shuffle = np.argsort(seeding.permutation(seed, len(values)), kind="stable")
        order = shuffle[np.argsort(values[shuffle], kind="stable")]
        grouped = values[order]
        starts = np.searchsorted(grouped, classes, side="left")
        sizes = np.searchsorted(grouped, classes, side="right") - starts
        if (sizes == 0).any():
            raise FieldMismatchError(
                "`match` needs synthetic samples of every real class, "
                f"got none of class {classes[sizes == 0].tolist()}. "
                "Generate them (for example with conditions=ClassLabels(num_classes)), or drop `match`."
            )
        return cls(order.astype(np.int64), starts.astype(np.int64), sizes.astype(np.int64))


class ClassOrder:
    """The real set in the order in which it is drawn, counted class by class.

    Args:
        rank: real index → its place in the shuffle.
        labels: real index → its class.

    Attributes:
        classes: the sorted classes of the real set.
    """

    def __init__(self, rank: npt.NDArray[np.int64 | np.int32], labels: Int64Array) -> None:
        self.classes: Int64Array
        self.classes, kinds = np.unique(labels, return_inverse=True)
        self._kind = np.empty(len(rank), np.int64)  # place in the shuffle → number of its class
        self._kind[rank] = kinds.reshape(-1)
        self._sizes = np.bincount(self._kind, minlength=len(self.classes)).astype(np.int64)
        by_class = np.argsort(self._kind, kind="stable")
        starts = np.cumsum(self._sizes) - self._sizes
        self._nth = np.empty(len(rank), np.int64)  # place in the shuffle → how many of its class come before
        self._nth[by_class] = np.arange(len(rank)) - starts[self._kind[by_class]]

    def positions(self, draws: Int64Array, members: ClassMembers) -> Int64Array:
        """Where draws, numbered through all epochs, are read in a source with these members."""
        lap, place = np.divmod(draws, len(self._kind))
        kind = self._kind[place]
        nth = lap * self._sizes[kind] + self._nth[place]
        positions: Int64Array = members.order[members.starts[kind] + nth % members.sizes[kind]]
        return positions
