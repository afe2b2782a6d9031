"""Draws matched by class: a real sample that is left out is replaced by a synthetic one of its own class.

Each draw stands for a real sample, and is the n-th draw of its class over all epochs; it reads the n-th of the
synthetic samples of that class, which are shuffled anew each time that all of them were read. Over the epochs those of
a class are used equally often (±1).
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
    """Draws counted class by class.

    Args:
        labels: real index → its class.
        seed: decides in which order the members of a class are read.

    Attributes:
        classes: the sorted classes of the real set.
    """

    def __init__(self, labels: Int64Array, seed: int) -> None:
        self.classes: Int64Array
        self.classes, kinds = np.unique(labels, return_inverse=True)
        self._kind: Int64Array = kinds.reshape(-1).astype(np.int64)  # real index → number of its class
        self._seed = seed

    def positions(self, drawn: Int64Array, counts_before: Int64Array, members: ClassMembers) -> Int64Array:
        """Where the draws of an epoch are read in a source with these members.

        Args:
            drawn: (draws,) real indices, whose classes are drawn.
            counts_before: how often each real index was drawn before the epoch.
            members: positions of the source by class.
        """
        kind = self._kind[drawn]
        before = np.zeros(len(self.classes), np.int64)
        np.add.at(before, self._kind, counts_before)
        lap, place = np.divmod(before[kind] + _running(kind, len(self.classes)), members.sizes[kind])
        every = np.stack([kind, lap])
        groups, group = np.unique(every, axis=1, return_inverse=True)
        group = group.reshape(-1)
        by_group = np.argsort(group, kind="stable")
        ends = np.cumsum(np.bincount(group, minlength=groups.shape[1]))
        for (number, turn), rows in zip(groups.T.tolist(), np.split(by_group, ends[:-1]), strict=True):
            order = seeding.permutation(int(seeding.derive(self._seed, number, turn)), int(members.sizes[number]))
            place[rows] = order[place[rows]]
        positions: Int64Array = members.order[members.starts[kind] + place]
        return positions


def _running(kind: Int64Array, num_kinds: int) -> Int64Array:
    """Of each element, how many of its kind come before it."""
    order = np.argsort(kind, kind="stable")
    sizes = np.bincount(kind, minlength=num_kinds)
    starts = np.cumsum(sizes) - sizes
    running = np.empty(len(kind), np.int64)
    running[order] = np.arange(len(kind)) - starts[kind[order]]
    return running
