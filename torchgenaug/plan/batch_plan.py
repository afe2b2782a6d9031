"""`BatchPlan`: how many samples of each batch are synthetic, and which. Pure arithmetic, no data.

Error diffusion: with a share s of synthetic per real sample, the running number of samples x decides how many synthetic
ones are due in all, ``floor(a + x·s + 1/2)``, and a batch gets the difference. Whatever the sizes of the batches, every
one of them, and every run of them, is then less than one sample from its share. The same number is the number of draws
made so far, and `EpochDraws` decides what each draw reads: within an epoch, and over epochs of known length, all are
read equally often (±1), and in another order each time. All of it is done in integers, so that nothing drifts.

References:
    Floyd, Steinberg (1976). An adaptive algorithm for spatial grey scale. Proc. Soc. Inf. Disp. 17, 75.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from torchgenaug import seeding
from torchgenaug.errors import EmptyDatasetError
from torchgenaug.plan.arguments import Mode, Ratio, check_epoch, check_mode_and_seed, check_ratio
from torchgenaug.plan.decided_counts import check_evaluated
from torchgenaug.plan.fair_draws import MOST_SHUFFLED, EpochDraws
from torchgenaug.plan.large_draws import LargeDraws
from torchgenaug.seeding import Int64Array

_HASHED_AT_ONCE = 64  # batches; a call of `derive` costs 50 µs however little it hashes
_PARTS = 1 << 20  # of a draw, where an epoch may begin
_ORDER, _START, _ROWS, _BEYOND = 1, 2, 3, 4


class BatchPlan:
    """The synthetic share of every batch: a function of (seed, epoch, rank, batch number, sizes of the batches).

    Args:
        num_synthetic: samples of the source.
        ratio: synthetic fraction, or a function epoch → fraction. A float means the decimal number that it prints as.
        mode: ``"replace"``: of B samples that arrive, ratio · B are replaced; ``"extend"``: ratio / (1 - ratio) · B are
            added.
        seed: in [0, 2^63).
        epoch_size: real samples of an epoch, so that shares and draws run on from epoch to epoch. None where it is not
            known beforehand: then every epoch begins at a pseudo-random draw, and its share is exact on average.
        per_rank: each process has a source of its own, and draws from it as the only one would.

    Raises:
        ConfigurationError: an argument outside its domain.
    """

    def __init__(
        self,
        num_synthetic: int,
        ratio: Ratio,
        *,
        mode: Mode = "replace",
        seed: int = 0,
        epoch_size: int | None = None,
        per_rank: bool = False,
    ) -> None:
        check_mode_and_seed(mode, seed)
        self.num_synthetic, self.ratio, self.mode, self.seed = num_synthetic, ratio, mode, int(seed)
        self.epoch_size, self.per_rank = epoch_size, per_rank
        self._sums = [Fraction(0)]
        self._latest: tuple[int, EpochDraws | LargeDraws] | None = None
        self.share(0)

    def share(self, epoch: int) -> Fraction:
        """Synthetic samples per real sample that arrives in `epoch`.

        Raises:
            ConfigurationError: not an epoch, or a ratio outside its domain.
            EmptyDatasetError: synthetic samples are due, but the source is empty.
        """
        check_epoch(epoch)
        ratio = self.ratio(epoch) if callable(self.ratio) else self.ratio
        check_ratio(ratio, self.mode, f" at epoch {epoch}" if callable(self.ratio) else "")
        if ratio and self.num_synthetic < 1:
            raise EmptyDatasetError(
                f"The synthetic source is empty, but a ratio of {ratio:g} is set in epoch {epoch}. "
                "Render or generate some, or set ratio=0."
            )
        exact = Fraction(repr(float(ratio)))
        if self.mode == "replace":
            return exact
        # 64 binary places: the denominators of a changing ratio would grow with every epoch that is added up.
        added = exact / (1 - exact)
        return Fraction(round(added * 2**64), 2**64) if callable(self.ratio) else added

    @property
    def is_large(self) -> bool:
        """Whether the draws go by `LargeDraws`."""
        return self.num_synthetic > MOST_SHUFFLED

    def epoch(self, epoch: int, *, rank: int = 0, world_size: int = 1) -> EpochPlan:
        """The plan of one epoch, as one of `world_size` processes sees it: each of them draws other samples."""
        share = self.share(epoch)
        if self.epoch_size is None:
            # Not a whole draw: rounded alike in every epoch, the shares of short epochs would be wrong all together.
            draw, part = divmod(int(seeding.derive(self.seed, _START, epoch, rank)), _PARTS)
            begin = draw % max(1, self.num_synthetic) + Fraction(part, _PARTS)
        else:
            before, world_size = (0, 1) if self.per_rank else (rank, world_size)
            begin = self.epoch_size * (world_size * self.sum_before(epoch) + before * share)
        key = int(seeding.derive(self.seed, _ROWS, epoch, rank))
        first, order = _rounded(begin), np.zeros(0, np.int64)
        if share and self.epoch_size is not None:
            draws = self._draws(world_size)
            first, order = _rounded(self._due(epoch, world_size)), draws.epoch(epoch)
        return EpochPlan(share, begin, key, self.num_synthetic, first, order)

    def _draws(self, world_size: int) -> EpochDraws | LargeDraws:
        """What the draws of all processes read in each epoch; kept from one epoch to the next."""
        if self._latest is None or self._latest[0] != world_size:
            steady = None if callable(self.ratio) else Fraction(self._due(1, world_size))
            key = int(seeding.derive(self.seed, _ORDER))
            before = partial(_rounded_due, self, world_size)
            draws = LargeDraws if self.is_large else EpochDraws
            self._latest = (world_size, draws(self.num_synthetic, key, before, steady))
        return self._latest[1]

    def _due(self, epoch: int, world_size: int) -> Fraction:
        """Synthetic samples that are due in the epochs before, in all processes."""
        return (self.epoch_size or 0) * world_size * self.sum_before(epoch)

    def sum_before(self, epoch: int) -> Fraction:
        """The shares of the epochs before `epoch`, added up."""
        if not callable(self.ratio):
            return epoch * self.share(0)
        check_evaluated(epoch)
        while len(self._sums) <= epoch:
            self._sums.append(self._sums[-1] + self.share(len(self._sums) - 1))
        return self._sums[epoch]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_latest": None}


def _rounded(due: Fraction) -> int:
    return math.floor(due + Fraction(1, 2))


def _rounded_due(plan: BatchPlan, world_size: int, epoch: int) -> int:
    return _rounded(plan._due(epoch, world_size))


class EpochPlan:
    """What `BatchPlan.epoch` returns.

    Args:
        share: synthetic samples per real sample.
        begin: synthetic samples that were due before this epoch.
        key: seed of the rows that are left out.
        size: samples of the source.
        first: number of the epoch's first draw, in any process.
        order: what the draws from that one on read; those beyond it go through shuffles of their own.
    """

    def __init__(self, share: Fraction, begin: Fraction, key: int, size: int, first: int, order: Int64Array) -> None:
        self.share, self._key, self._size, self._first, self._order = share, key, size, first, order
        self._beyond: dict[int, Int64Array] = {}
        common = math.lcm(share.denominator, begin.denominator)
        # floor(begin + x·share + 1/2) = (offset + x·step) // whole
        self._whole, self._step = 2 * common, 2 * int(share * common)
        self._offset = 2 * int(begin * common) + common
        self._block, self._shuffles = -1, np.zeros((0, 0), np.int64)
        self._kept: dict[int, Int64Array] = {}  # how many rows are kept → which, for each batch of the block

    def draws(self, seen: int, size: int) -> range:
        """The draws, one per synthetic sample, of a batch of `size` real samples that comes after `seen` others."""
        before = self._offset + seen * self._step
        return range(before // self._whole, (before + size * self._step) // self._whole)

    def positions(self, draws: range) -> Int64Array:
        """Where these draws are read in the source."""
        start, stop, known = draws.start - self._first, draws.stop - self._first, len(self._order)
        if start >= 0 and stop <= known:
            return self._order[start:stop].copy()  # as in most batches; by far the cheapest
        read = []
        while start < stop:
            if start < known:
                some = self._order[start : min(stop, known)]
            else:
                lap, place = divmod(start - known, self._size)
                some = self._shuffle(lap)[place : place + stop - start]
            read.append(some)
            start += len(some)
        return np.concatenate(read) if read else np.zeros(0, np.int64)

    def _shuffle(self, lap: int) -> Int64Array:
        """What the draws beyond the known ones read: a shuffle of the source after the other."""
        if lap not in self._beyond:
            self._beyond = {lap: seeding.permutation(int(seeding.derive(self._key, _BEYOND, lap)), self._size)}
        return self._beyond[lap]

    def kept(self, batch: int, size: int, count: int) -> Int64Array:
        """Which `count` of the `size` real rows of batch number `batch` are kept: a pseudo-random subset, ascending."""
        if count == size:
            return np.arange(size)
        block, row = divmod(batch, _HASHED_AT_ONCE)
        if block != self._block:
            batches = np.arange(_HASHED_AT_ONCE)[:, None] + block * _HASHED_AT_ONCE
            self._block, self._shuffles = block, np.argsort(seeding.derive(self._key, batches, np.arange(size)))
            self._kept.clear()
        if self._shuffles.shape[1] == size:
            if count not in self._kept:  # one of two, with a constant ratio
                self._kept[count] = np.sort(self._shuffles[:, size - count :])
            rows: Int64Array = self._kept[count][row]
            return rows
        return np.sort(np.argsort(seeding.derive(self._key, batch, np.arange(size)))[size - count :])
