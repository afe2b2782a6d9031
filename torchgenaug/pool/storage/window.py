"""`Window`: which samples are seen when, which batches they are made in, and where each batch lies in the ring."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Window:
    """The arithmetic of a pool; pure, and the same in every process.

    An epoch has P parts, numbered through: part p of epoch e is *turn* t = e·P + p. Turn t sees the places
    [t·step, t·step + capacity) of a line of samples. In a single process, place i of the line is sample i. Of W
    processes, each has a line of its own, made of every W-th batch of the sequence: batch k of rank r's line is batch
    k·W + r of the sequence. So no two ranks see the same sample, and together they have the sequence.

    Samples are made in *aligned* batches, ids [k·B, (k+1)·B) for batch k, because the bits of a sample may depend on
    the batch that it is made in: aligned, they are those of every other pool and render with this batch size. The ring
    holds whole batches: the line's batch k in place k modulo `num_places`, so that place i of the line lies in slot i
    modulo `num_slots`.

    Attributes:
        capacity: samples that an epoch sees.
        step: by how many samples the window moves from turn to turn; 0 for a pool that never changes.
        batch_size: B.
        ahead: how many samples beyond the window are made in advance, for the next turn.
        rank: r.
        world_size: W.
        parts: P.
    """

    capacity: int
    step: int
    batch_size: int
    ahead: int
    rank: int = 0
    world_size: int = 1
    parts: int = 1

    @property
    def num_places(self) -> int:
        """How many batches the ring holds: no two of a window, and of what is made ahead of it, share a place."""
        # The window starts at a multiple of gcd(step, B), so this is how far into a batch it can start at most.
        latest_start = self.batch_size - math.gcd(self.step, self.batch_size)
        return (latest_start + self.capacity + self.ahead - 1) // self.batch_size + 1

    @property
    def num_slots(self) -> int:
        """How many samples the ring holds."""
        return self.num_places * self.batch_size

    @property
    def lifetime(self) -> int | None:
        """In how many turns a sample can be seen, at most; None for ever. This bounds its reuse."""
        return None if self.step == 0 else -(-self.capacity // self.step)

    @property
    def lifetime_epochs(self) -> int | None:
        """In how many epochs a sample can be seen, at most: when it is seen first in the last part of one."""
        return None if self.lifetime is None else (self.lifetime + self.parts - 2) // self.parts + 1

    def turn(self, epoch: int, part: int = 0) -> int:
        """The number of a part of an epoch, counted through all epochs."""
        return epoch * self.parts + part

    def name(self, turn: int) -> str:
        """A turn as users know it."""
        epoch, part = divmod(turn, self.parts)
        return f"epoch {epoch}" if self.parts == 1 else f"part {part} of epoch {epoch}"

    def start(self, turn: int) -> int:
        """Where on the line a turn begins."""
        return turn * self.step

    def batches(self, turn: int) -> npt.NDArray[np.int64]:
        """The line's batches that hold the window of a turn, in order."""
        return self._batches(turn, self.capacity)

    def batches_ahead(self, turn: int) -> npt.NDArray[np.int64]:
        """The line's batches that the ring should hold during a turn: the window, and what is made ahead."""
        return self._batches(turn, self.capacity + self.ahead)

    def ids(self, batch: int) -> npt.NDArray[np.int64]:
        """The ids of the line's batch `batch`: (batch_size,), aligned."""
        return self.ids_at(np.arange(batch * self.batch_size, (batch + 1) * self.batch_size))

    def ids_at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which samples of the sequence lie at these places of the line: (n,)."""
        batches = places // self.batch_size
        return places + (batches * (self.world_size - 1) + self.rank) * self.batch_size

    def _batches(self, turn: int, count: int) -> npt.NDArray[np.int64]:
        start = self.start(turn)
        return np.arange(start // self.batch_size, (start + count - 1) // self.batch_size + 1)
