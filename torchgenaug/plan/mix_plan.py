"""`MixPlan`: which index of which epoch is synthetic, and where each sample is read. Pure arithmetic, no data.

The draws of all epochs are numbered through: epoch e makes draws ``offset(e), offset(e) + 1, …`` where ``offset(e)`` is
the number of draws of the epochs before. Which real sample a draw leaves out, and which synthetic one it reads, is
decided by two `EpochDraws`, or `LargeDraws`: over the epochs all are used equally often (±1), whatever the ratio does
from epoch to epoch, and always in other sets and pairs. Matched classes are counted class by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, SampleIndexError
from torchgenaug.plan.amounts import Counts, EpochAmounts
from torchgenaug.plan.arguments import (
    Mode,
    Ratio,
    check_mode_and_seed,
    check_ratio,
    checked_count,
    checked_index,
    checked_share,
    index_array,
)
from torchgenaug.plan.class_matching import ClassMembers, ClassOrder
from torchgenaug.plan.fair_draws import MOST_SHUFFLED, EpochDraws
from torchgenaug.plan.large_draws import LargeDraws
from torchgenaug.plan.spread import spread
from torchgenaug.seeding import Int64Array

_REAL_ORDER, _SYNTHETIC_ORDER, _CLASS_ORDER = 0, 1, 2


class MixPlan:
    """Which positions of an epoch are synthetic, and where each is read: a pure function of (seed, epoch, index).

    Memory is one permutation of the real and one of the synthetic set, and an epoch's codes; none of it is pickled.

    Args:
        num_real: samples of the real set, at least 1.
        num_synthetic: samples of the synthetic source.
        ratio: synthetic fraction of an epoch: in [0, 1] to replace, in [0, 1) to extend; or a function epoch →
            fraction.
        mode: ``"replace"`` keeps the length and makes exactly ``round(ratio · num_real)`` positions synthetic (halves
            to even, as Python rounds); ``"extend"`` keeps all real samples and adds ``round(ratio / (1 - ratio) ·
            num_real)``.
        count: synthetic samples per epoch as an absolute number, instead of `ratio`.
        seed: decides which; in [0, 2^63).
        labels: the class of each real sample, (num_real,), for class-matched replacement; None without.

    Raises:
        ConfigurationError: an argument outside its domain.
        EmptyDatasetError: no real samples, or synthetic ones needed from an empty source.

    Example:
        >>> plan = MixPlan(num_real=8, num_synthetic=100, ratio=0.25)
        >>> plan.counts(epoch=0)
        Counts(real=6, synthetic=2)
        >>> is_synthetic, positions = plan.look_up(np.arange(8), epoch=0)
        >>> int(is_synthetic.sum())
        2
    """

    def __init__(
        self,
        num_real: int,
        num_synthetic: int,
        ratio: Ratio | None = None,
        *,
        mode: Mode = "replace",
        count: int | None = None,
        seed: int = 0,
        labels: npt.ArrayLike | None = None,
    ) -> None:
        if num_real < 1:
            raise EmptyDatasetError(
                "The real data set is empty. There is nothing to mix into; check its path or split."
            )
        check_mode_and_seed(mode, seed)
        self.num_real, self.num_synthetic, self.mode, self.seed = num_real, num_synthetic, mode, int(seed)
        ratio = checked_share(ratio, count)
        self.ratio, self.count = ratio, checked_count(count, num_real, mode)
        if not callable(ratio):
            check_ratio(ratio, mode)
        self.labels: Int64Array | None = None
        if labels is not None:
            self.labels = np.asarray(labels, dtype=np.int64).reshape(-1)
            if len(self.labels) != num_real:
                raise ConfigurationError(
                    f"`labels` must hold one class per real sample ({num_real}), got {len(self.labels)}."
                )
        self.amounts = EpochAmounts(num_real, num_synthetic, ratio, self.count, mode)
        self._latest = (-1, (0, 0, 0))
        self._kept: tuple[int, ClassMembers | None, Int64Array] = (-1, None, np.zeros(0, np.int64))
        self.numbers(0)

    def num_drawn(self, epoch: int) -> int:
        """How many samples of `epoch` are synthetic; a ratio that is a function is called, unless that is decided."""
        return self.amounts.of(epoch)

    def decide(self, epoch: int) -> None:
        """Decides how many samples of `epoch`, and of those before, are synthetic: the ratio is not called again."""
        self.amounts.decide(epoch)
        self._latest = (-1, (0, 0, 0))

    def restore(self, drawn: list[int]) -> None:
        """Goes back to the numbers of the epochs that a saved run had decided; what was computed with others goes."""
        self.amounts.restore(drawn)
        self.__dict__ = {**self.__getstate__(), "_latest": (-1, (0, 0, 0))}

    def counts(self, epoch: int) -> Counts:
        """The exact number of real and synthetic samples of `epoch`."""
        drawn = self.num_drawn(epoch)
        return Counts(self.num_real - (drawn if self.mode == "replace" else 0), drawn)

    def offset(self, epoch: int) -> int:
        """How many synthetic samples the epochs before `epoch` drew; decides them."""
        return self.amounts.before(epoch)

    def look_up(
        self, indices: npt.ArrayLike, epoch: int, members: ClassMembers | None = None
    ) -> tuple[npt.NDArray[np.bool_], Int64Array]:
        """Whether each index is synthetic, and where it is read: in the synthetic source if so, in the real set if not.

        Args:
            indices: (n,) integers in ``range(counts(epoch).total)``.
            epoch: epoch number, from 0.
            members: the source's positions by class; required if the plan has labels.

        Returns:
            ``is_synthetic`` (n,) bool and ``positions`` (n,) int64.

        Raises:
            SampleIndexError: an index outside the epoch.
        """
        codes = self.codes(indices, epoch, members)
        is_synthetic = codes < 0
        return is_synthetic, np.where(is_synthetic, ~codes, codes)

    def codes(self, indices: npt.ArrayLike, epoch: int, members: ClassMembers | None = None) -> Int64Array:
        """`look_up` in one array: a real position as it is, a synthetic one as its complement ``~position``.

        Arguments, result order and errors are those of `look_up`. Up to four million samples the codes of the latest
        epoch are kept, so that a look-up is one gather; beyond, they are computed for each batch.
        """
        index = index_array(indices)
        total = self.numbers(epoch)[1]
        self._check_indices(index, epoch)
        if total > MOST_SHUFFLED:
            return self._codes(index, epoch, members)
        kept = self._kept
        if kept[0] != epoch or kept[1] is not members:
            codes = self._codes(np.arange(total), epoch, members)
            kept = self._kept = (epoch, members, codes)
        return kept[2][index]

    def _check_indices(self, index: Int64Array, epoch: int) -> None:
        total = self.numbers(epoch)[1]
        # Seen as unsigned, a negative index is huge: one reduction finds both ends.
        if index.size and index.view(np.uint64).max() >= total:
            raise SampleIndexError(
                f"`indices` must be in [0, {total}) in epoch {epoch}, got {index.min()} to {index.max()}. "
                "A sampler that was built for another epoch's length must be rebuilt."
            )

    def code_list(self, indices: Sequence[int], epoch: int, members: ClassMembers | None = None) -> list[int]:
        """`codes` as a list. A list of integers is looked up in kept codes in 3 µs a batch rather than 8."""
        kept = self._kept
        if type(indices) is list and kept[0] == epoch and kept[1] is members:
            try:
                first = min(indices)
                if first >= 0 and type(first) is not bool:  # a negative one would be counted from the end
                    # Not by numpy: between two training steps its first call takes 15 µs.
                    items: Any = kept[2].data
                    return [items[index] for index in indices]
            except (TypeError, ValueError, IndexError, RuntimeError):
                pass  # something else than integers of this epoch: what to make of it is decided below
        if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu":
            indices = [checked_index(index) for index in indices]
        elif indices.ndim != 1:
            raise SampleIndexError(f"`indices` must be a sequence of numbers, got an array of shape {indices.shape}.")
        found: list[int] = self.codes(indices, epoch, members).tolist()
        return found

    def _codes(self, index: Int64Array, epoch: int, members: ClassMembers | None) -> Int64Array:
        if not self.numbers(epoch)[0]:
            return index
        leaves_out, reads = self._leaves_out, self._reads
        if self.labels is None and isinstance(leaves_out, LargeDraws) and isinstance(reads, LargeDraws):
            return self._far_codes(index, epoch, leaves_out, reads)
        if self.labels is None:
            positions = reads.epoch(epoch)
        elif members is None:
            raise ConfigurationError(
                "`members` must be given for a plan with labels. Build it with plan.group(labels)."
            )
        else:
            positions = self._class_order.positions(leaves_out.epoch(epoch), leaves_out.counts_before(epoch), members)
        return self._placed(index, epoch, positions)

    def _placed(self, index: Int64Array, epoch: int, positions: Int64Array) -> Int64Array:
        """The codes of an epoch whose draws are read at these positions."""
        drawn, total, _ = self.numbers(epoch)
        if self.mode == "replace":
            codes = np.arange(total)  # a real sample is read at its own index
            codes[self._leaves_out.epoch(epoch)] = ~positions
            return codes[index]
        draw, is_synthetic = spread(index, drawn, total)
        codes = index - draw
        codes[is_synthetic] = ~positions[draw[is_synthetic]]
        return codes

    def _far_codes(self, index: Int64Array, epoch: int, leaves_out: LargeDraws, reads: LargeDraws) -> Int64Array:
        """The same for sets of which no table is kept: each index is read off by itself."""
        drawn, total, _ = self.numbers(epoch)
        if self.mode == "replace":
            draw = leaves_out.draws_of(epoch, index)
            is_synthetic = draw < drawn
            codes = index.copy()
        else:
            draw, is_synthetic = spread(index, drawn, total)
            codes = index - draw
        codes[is_synthetic] = ~reads.elements(epoch, draw[is_synthetic])
        return codes

    def is_synthetic(self, indices: npt.ArrayLike, epoch: int) -> npt.NDArray[np.bool_]:
        """Whether each index of `epoch` is synthetic: (n,) bool."""
        if self.labels is None:
            return self.look_up(indices, epoch)[0]
        index = index_array(indices)
        self._check_indices(index, epoch)
        drawn = self.numbers(epoch)[0]
        return self._placed(index, epoch, np.zeros(drawn, np.int64)) < 0

    @property
    def classes(self) -> Int64Array:
        """The sorted classes of the real set (empty without labels)."""
        return self._class_order.classes if self.labels is not None else np.zeros(0, np.int64)

    def group(self, source_labels: npt.ArrayLike) -> ClassMembers:
        """The `members` that `look_up` needs, for a source whose samples have these labels."""
        return ClassMembers.group(source_labels, self.classes, int(seeding.derive(self.seed, _CLASS_ORDER)))

    def numbers(self, epoch: int) -> tuple[int, int, int]:
        """Samples drawn in `epoch`, its length, and the draws before it, remembered; decides the epoch."""
        if self._latest[0] != epoch:
            self.decide(epoch)
            drawn = self.num_drawn(epoch)
            total = self.num_real + (drawn if self.mode == "extend" else 0)
            self._latest = (epoch, (drawn, total, self.offset(epoch)))
        return self._latest[1]

    @cached_property
    def _leaves_out(self) -> EpochDraws | LargeDraws:
        """Which real samples each epoch leaves out; or, with labels, whose classes it draws."""
        return self._draws(self.num_real, _REAL_ORDER)

    @cached_property
    def _reads(self) -> EpochDraws | LargeDraws:
        """Where each epoch reads the source."""
        return self._draws(self.num_synthetic, _SYNTHETIC_ORDER)

    def _draws(self, size: int, purpose: int) -> EpochDraws | LargeDraws:
        steady = self.amounts.of(0) if self.amounts.decided is None else None
        draws = LargeDraws if self.is_large else EpochDraws
        return draws(size, int(seeding.derive(self.seed, purpose)), self.offset, steady)

    @property
    def is_large(self) -> bool:
        """Whether no epoch is held as a table: the draws of each index are computed when it is read."""
        if self.labels is not None:
            return self.num_real > MOST_SHUFFLED
        # A function is not called for epochs to come: all epochs must go by one scheme.
        longest = self.num_real if self.amounts.decided is not None else self.counts(0).total
        return max(longest, self.num_real, self.num_synthetic) > MOST_SHUFFLED

    @cached_property
    def _class_order(self) -> ClassOrder:
        labels = self.labels if self.labels is not None else np.zeros(0, np.int64)
        return ClassOrder(labels, int(seeding.derive(self.seed, _CLASS_ORDER)))

    def __getstate__(self) -> dict[str, Any]:
        # The permutations are recomputed where they are needed: that is faster than to send them to every worker.
        state = {name: value for name, value in self.__dict__.items() if name not in _RECOMPUTED}
        return {**state, "_kept": (-1, None, np.zeros(0, np.int64))}

    def __repr__(self) -> str:
        amount = f"count={self.count}" if self.count is not None else f"ratio={self.ratio!r}"
        return f"MixPlan({self.num_real} real, {self.num_synthetic} synthetic, {amount}, mode={self.mode!r})"


_RECOMPUTED = frozenset(name for name, attribute in vars(MixPlan).items() if isinstance(attribute, cached_property))
