"""`FairDraws`: which of n elements each epoch draws, all of them equally often, in another order in each lap.

The draws of all epochs are numbered through; n consecutive ones, a lap, draw every element once. Each lap has a shuffle
of its own. Only an epoch that begins in one lap and ends in the next could draw an element twice: so the draws that it
makes in the second lap are chosen among the elements that it did not draw in the first.

Every other lap is shuffled freely, and the laps between are fitted to both of their neighbours: any epoch is then found
by itself, however late it is. Where the draws of later epochs are not known yet (a ratio that is a function), or an
epoch draws so much that a lap cannot be fitted to both sides, a lap is fitted to the one before it only.

Beyond four million elements, which take half a second to shuffle in every worker, see `LargeDraws`.

An epoch of n draws or more draws everything ``draws // n`` times, and the rest in this way.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from torchgenaug import seeding
from torchgenaug.seeding import Int64Array

_LAP, _WHOLE, _OTHERS = 0, 1, 2
_KEPT_LAPS = 4
_SMALL = 4096  # elements: below, many laps are shuffled in one call
MOST_SHUFFLED = 1 << 22
"""Elements that are shuffled anew in each lap."""

_FAR = 1 << 80  # an epoch that no run reaches: the end of searches


class FairDraws:
    """Draws of epochs, a function of (seed, epoch).

    Over all epochs from the first on, all elements are drawn equally often (±1); within one epoch, too.

    Args:
        size: how many elements there are.
        seed: decides the order.
        before: epoch → number of draws in the epochs before it, each of which makes at most `size` draws; it does not
            decrease.
        foresight: whether `before` may be called for epochs to come.
    """

    def __init__(self, size: int, seed: int, before: Callable[[int], int], *, foresight: bool) -> None:
        self.size, self._seed, self._before, self._foresight = size, seed, before, foresight
        self._laps: dict[int, Int64Array] = {}

    def epoch(self, epoch: int) -> Int64Array:
        """The elements that `epoch` draws, in the order of its draws."""
        begin, end = self._before(epoch), self._before(epoch + 1)
        if begin == end:
            return np.zeros(0, np.int64)
        first, last = begin // self.size, (end - 1) // self.size
        drawn = self._lap(first, epoch)[begin - first * self.size : end - first * self.size]
        if last > first:
            drawn = np.concatenate([drawn, self._lap(last, epoch)[: end - last * self.size]])
        return drawn

    def counts_before(self, epoch: int) -> Int64Array:
        """How often each element was drawn before `epoch`: (size,)."""
        begin = self._before(epoch)
        lap, drawn = divmod(begin, self.size)
        counts = np.full(self.size, lap, np.int64)
        if drawn:
            counts[self._lap(lap, epoch - 1)[:drawn]] += 1
        return counts

    def _lap(self, lap: int, epoch: int) -> Int64Array:
        """The order of a lap. `epoch` draws in it: what comes after is not known without foresight."""
        start = lap
        while start not in self._laps and not self._is_free(start):
            start -= 1
        for number in range(start, lap + 1):
            if number not in self._laps:
                self._laps[number] = self._order(number, epoch)
                if len(self._laps) > _KEPT_LAPS:
                    del self._laps[next(iter(self._laps))]  # the oldest
        return self._laps[lap]

    def _order(self, lap: int, epoch: int) -> Int64Array:
        order = self._shuffle(lap)
        if self._is_free(lap):
            return order
        last_drawn, head = self._crossing(lap, None if self._foresight else epoch + 1)
        taken = np.zeros(self.size, bool)  # those that the epoch across the boundary draws in the lap before
        if last_drawn:
            taken[self._laps[lap - 1][self.size - last_drawn :]] = True
        ending = np.zeros(0, np.int64)
        is_ending = np.zeros(self.size, bool)
        if self._foresight and self._is_free(lap + 1):
            tail, ahead = self._crossing(lap + 1)
            follows = np.zeros(self.size, bool)
            follows[self._shuffle(lap + 1)[:ahead]] = True
            ending = order[~follows[order]][self.size - int(follows.sum()) - tail :] if tail else ending
            is_ending[ending] = True
        beginning = order[~(taken | is_ending)[order]][:head]
        is_beginning = np.zeros(self.size, bool)
        is_beginning[beginning] = True
        return np.concatenate([beginning, order[~(is_beginning | is_ending)[order]], ending])

    def _is_free(self, lap: int) -> bool:
        """Whether a lap is shuffled without regard to the one before: the one before is then fitted to it."""
        if lap == 0:
            return True
        if lap % 2 or not self._foresight:
            return False
        last_drawn, head = self._crossing(lap - 1)
        return last_drawn + head + self._crossing(lap)[0] <= self.size

    def _crossing(self, lap: int, until: int | None = None) -> tuple[int, int]:
        """How many draws the epoch across the beginning of a lap makes before and behind it; (0, 0) if there is none.

        Args:
            lap: number of the lap.
            until: an epoch that begins there or later; None: it is searched for.
        """
        boundary, low, high = lap * self.size, 0, until
        if high is None:
            low, step = 0, 1
            while step < _FAR and self._before(low + step) < boundary:  # no epoch begins at or after it so far
                low, step = low + step, 2 * step
            high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._before(middle) < boundary else (low, middle)
        behind = self._before(high) - boundary  # `high` is the first epoch that begins at the boundary or behind it
        return (boundary - self._before(high - 1), behind) if behind else (0, 0)

    def _shuffle(self, lap: int) -> Int64Array:
        return seeding.permutation(int(seeding.derive(self._seed, _LAP, lap)), self.size)


class EpochDraws:
    """The same for any number of draws per epoch, and for steady ones at the lower price of the fewer elements.

    Args:
        size: how many elements there are, at least 1.
        seed: decides the order.
        before: epoch → number of draws in the epochs before it; it does not decrease.
        steady: draws per epoch, on average, if it is the same for all epochs (each may be off by one); else None.
    """

    def __init__(self, size: int, seed: int, before: Callable[[int], int], steady: Fraction | int | None) -> None:
        self.size, self._seed, self._before, self._steady = size, seed, before, steady
        self._whole: int | None = None if steady is None else int(steady // size)
        rest = 0 if steady is None or self._whole is None else steady - self._whole * size
        self._complement = steady is not None and 2 * rest > size
        self._sums = [0]
        self._latest = (-1, np.zeros(0, np.int64))
        self._fair = FairDraws(
            size, int(seeding.derive(seed, _OTHERS)), self._rest_before, foresight=steady is not None
        )

    def epoch(self, epoch: int) -> Int64Array:
        """The elements that `epoch` draws, in the order of its draws; any run from its first on is even (±1)."""
        if self._latest[0] != epoch:
            self._latest = (epoch, self._drawn(epoch))
        return self._latest[1]

    def _drawn(self, epoch: int) -> Int64Array:
        rest = self._fair.epoch(epoch)
        key = seeding.derive(self._seed, _WHOLE, epoch)
        if self._complement:
            left = np.ones(self.size, bool)
            left[rest] = False
            order = seeding.permutation(int(key), self.size)
            rest = order[left[order]]
        whole = (self._before(epoch + 1) - self._before(epoch) - len(rest)) // self.size
        if not whole:
            return rest
        if self.size < _SMALL:
            laps = [np.argsort(seeding.derive(int(key), np.arange(whole)[:, None], np.arange(self.size))).reshape(-1)]
        else:
            laps = [seeding.permutation(int(seeding.derive(int(key), lap)), self.size) for lap in range(whole)]
        return np.concatenate([*laps, rest])

    def counts_before(self, epoch: int) -> Int64Array:
        """How often each element was drawn before `epoch`: (size,)."""
        rest = self._fair.counts_before(epoch)
        if self._complement:
            rest = epoch - rest
        return rest + (self._before(epoch) - int(rest.sum())) // self.size

    def _rest_before(self, epoch: int) -> int:
        """What the epochs before draw beyond all elements, or, of the complement, leave out."""
        if self._whole is not None:
            rest = self._before(epoch) - epoch * self._whole * self.size
            return epoch * self.size - rest if self._complement else rest
        while len(self._sums) <= epoch:
            last = len(self._sums) - 1
            drawn = self._before(last + 1) - self._before(last)
            self._sums.append(self._sums[-1] + drawn % self.size)
        return self._sums[epoch]
