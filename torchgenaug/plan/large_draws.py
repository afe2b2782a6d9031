"""`LargeDraws`: what `EpochDraws` decides, for sets too large for a shuffle of each lap.

All draws go through one shuffle, as through a circle, and each lap of it begins at another place. What a lap draws last
and the next one first are arcs of the circle: an epoch of d draws across their boundary draws nothing twice if the
next lap begins 0 to ``size - d`` places later than the one before. If each epoch draws as much, the beginnings are
``lap · a + noise`` with a noise in [0, a] and ``a = (size - d) / 2``, so that any lap is found by itself, however late
it is; otherwise each one is drawn after the one before. Within an epoch the draws begin anywhere in what it draws and
go round, so that other pairs are formed even where an epoch draws almost everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from torchgenaug import seeding
from torchgenaug.seeding import Int64Array

_ORDER, _LAP, _EPOCH = 0, 1, 2


class _Places(NamedTuple):
    """How an epoch goes through the circle.

    Attributes:
        whole: draws of whole circles, which come first.
        drawn: the other draws.
        here: how many of them the lap holds at most in which they begin.
        first: where they begin.
        later: where the next lap begins.
        turn: by how much the draws are turned; to be taken modulo their number.
    """

    whole: int
    drawn: int
    here: int
    first: int
    later: int
    turn: int


class LargeDraws:
    """Draws of epochs, a function of (seed, epoch): in each epoch and over all of them even (±1).

    Memory is the shuffle and its inverse, made where they are first needed; neither is pickled.

    Args:
        size: how many elements there are, at least 1.
        seed: decides the order.
        before: epoch → number of draws in the epochs before it; it does not decrease.
        steady: draws per epoch, on average, if it is the same for all epochs (each may be off by one); else None.
    """

    def __init__(self, size: int, seed: int, before: Callable[[int], int], steady: Fraction | int | None) -> None:
        self.size, self._seed, self._before, self._steady = size, seed, before, steady
        self._whole: int | None = None if steady is None else int(steady // size)
        self._sums, self._begins = [0], [0]
        self._latest: tuple[int, _Places] | None = None

    def epoch(self, epoch: int) -> Int64Array:
        """The elements that `epoch` draws, in the order of its draws; any run from its first on is even (±1)."""
        return self.elements(epoch, np.arange(self._before(epoch + 1) - self._before(epoch)))

    def elements(self, epoch: int, draws: Int64Array) -> Int64Array:
        """The elements of some draws of an epoch, counted from its first one."""
        whole, drawn, here, first, later, turn = self._places(epoch)
        rest = (draws - whole + turn % drawn) % drawn if drawn else draws
        places = np.where(rest < here, rest + first, rest + (later - here))
        if whole:
            places = np.where(draws < whole, draws + turn % self.size, places)
        elements: Int64Array = self._order[places % self.size].astype(np.int64)
        return elements

    def draws_of(self, epoch: int, elements: Int64Array) -> Int64Array:
        """Which draw of an epoch of `size` draws or fewer reads each element; `size` where none does."""
        whole, drawn, here, first, later, turn = self._places(epoch)
        ranks = self._rank[elements].astype(np.int64)
        if whole:
            return (ranks - turn % self.size) % self.size
        if not drawn:
            return np.full(ranks.shape, self.size)
        rest, again = (ranks - first) % self.size, (ranks - later) % self.size + here
        rest = np.where(rest < min(here, drawn), rest, again)
        return np.where(rest < drawn, (rest - turn % drawn) % drawn, self.size)

    def counts_before(self, epoch: int) -> Int64Array:
        """How often each element was drawn before `epoch`: (size,)."""
        lap, drawn = divmod(self._rest_before(epoch), self.size)
        counts = np.full(self.size, lap, np.int64)
        if drawn:
            counts[self._order[(np.arange(drawn) + self._begin(lap, epoch - 1)) % self.size]] += 1
        return counts + (self._before(epoch) - self._rest_before(epoch)) // self.size

    def _places(self, epoch: int) -> _Places:
        if self._latest is None or self._latest[0] != epoch:
            begin, end = self._rest_before(epoch), self._rest_before(epoch + 1)
            (lap, place), drawn = divmod(begin, self.size), end - begin
            here = self.size - place
            first = (self._begin(lap, epoch) + place) % self.size if drawn else 0
            later = self._begin(lap + 1, epoch) if drawn > here else 0
            whole = self._before(epoch + 1) - self._before(epoch) - drawn
            turn = int(seeding.derive(self._seed, _EPOCH, epoch))
            self._latest = (epoch, _Places(whole, drawn, here, first, later, turn))
        return self._latest[1]

    def _begin(self, lap: int, epoch: int) -> int:
        """Where on the circle a lap begins. `epoch` draws in it: what comes after may not be known."""
        if self._steady is not None and self._whole is not None:
            most = min(self.size, math.ceil(self._steady - self._whole * self.size))
            step = (self.size - most) // 2
            return (lap * step + self._random(lap, step)) % self.size
        while len(self._begins) <= lap:
            number = len(self._begins)
            free = self.size - self._across(number * self.size, epoch)
            self._begins.append((self._begins[-1] + self._random(number, free)) % self.size)
        return self._begins[lap]

    def _random(self, lap: int, most: int) -> int:
        return int(seeding.derive(self._seed, _LAP, lap)) % (most + 1)

    def _across(self, boundary: int, epoch: int) -> int:
        """How many draws the epoch makes that draws before and behind a boundary of laps; 0 if none does."""
        low, high = 0, epoch + 1  # `high` begins at the boundary or behind it
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._rest_before(middle) < boundary else (low, middle)
        begin, end = self._rest_before(high - 1), self._rest_before(high)
        return end - begin if end > boundary else 0

    def _rest_before(self, epoch: int) -> int:
        """What the epochs before draw beyond all elements."""
        if self._whole is not None:
            return self._before(epoch) - epoch * self._whole * self.size
        while len(self._sums) <= epoch:
            last = len(self._sums) - 1
            self._sums.append(self._sums[-1] + (self._before(last + 1) - self._before(last)) % self.size)
        return self._sums[epoch]

    @cached_property
    def _order(self) -> npt.NDArray[np.int64 | np.int32]:
        order = seeding.permutation(int(seeding.derive(self._seed, _ORDER)), self.size)
        # In half the memory where the numbers are small enough, as they almost always are.
        return order.astype(np.int32) if self.size <= np.iinfo(np.int32).max else order

    @cached_property
    def _rank(self) -> npt.NDArray[np.int64 | np.int32]:
        """Element → its place on the circle."""
        rank = np.empty_like(self._order)
        rank[self._order] = np.arange(self.size, dtype=rank.dtype)
        return rank

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_order", "_rank")}
