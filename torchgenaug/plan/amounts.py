"""`Counts` and `EpochAmounts`: how many samples of each epoch are synthetic."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.plan.arguments import Mode, Ratio, check_epoch, check_ratio
from torchgenaug.plan.decided_counts import DecidedCounts

_LONGEST = (1 << 63) - 1  # what len() may return


class Counts(NamedTuple):
    """How many real and synthetic samples an epoch holds."""

    real: int
    synthetic: int

    @property
    def total(self) -> int:
        """Length of the epoch."""
        return self.real + self.synthetic


class EpochAmounts:
    """Exact numbers of synthetic samples: an absolute count, or a share that is rounded.

    Args:
        num_real: samples of the real set.
        num_synthetic: samples of the synthetic source.
        ratio: synthetic fraction of an epoch, or a function epoch → fraction.
        count: synthetic samples of every epoch, instead of `ratio`; None without.
        mode: as in `MixPlan`.

    Attributes:
        decided: where the ratio is a function, what it came to in the epochs that began; None otherwise.
    """

    def __init__(self, num_real: int, num_synthetic: int, ratio: Ratio, count: int | None, mode: Mode) -> None:
        self.num_real, self.num_synthetic = num_real, num_synthetic
        self.ratio, self.count, self.mode = ratio, count, mode
        self.decided: DecidedCounts | None = None if count is not None or not callable(ratio) else DecidedCounts()

    def of(self, epoch: int) -> int:
        """How many samples of `epoch` are synthetic; a ratio that is a function is called, unless that is decided."""
        check_epoch(epoch)
        decided = None if self.decided is None else self.decided.of(epoch)
        return self.evaluated(epoch) if decided is None else decided

    def decide(self, epoch: int) -> None:
        """Decides the numbers of `epoch` and of those before: the ratio is not called again for them."""
        check_epoch(epoch)
        if self.decided is not None:
            self.decided.decide(epoch, self.evaluated)

    def before(self, epoch: int) -> int:
        """The sum over the epochs before `epoch`; decides them."""
        if self.decided is None:
            return int(epoch) * self.evaluated(0)
        if epoch:
            self.decided.decide(epoch - 1, self.evaluated)
        return self.decided.sum_before(epoch)

    def restore(self, drawn: list[int]) -> None:
        """Goes back to the numbers of the epochs that a saved run had decided.

        Warns:
            UserWarning: the function gives others now. It may follow the training, so that is no error.
        """
        if self.decided is None:
            return
        other = next((epoch for epoch, number in enumerate(drawn) if self.evaluated(epoch) != number), None)
        if other is not None:
            warnings.warn(
                f"The ratio function gives {self.evaluated(other)} synthetic samples in epoch {other}, where "
                f"the saved run drew {drawn[other]}. Epochs that had begun keep their numbers; later ones follow the "
                "function as it is now. If it was meant to be the same, pass the same function.",
                UserWarning,
                stacklevel=5,
            )
        self.decided.restore(drawn)

    def evaluated(self, epoch: int) -> int:
        """What the count or the ratio comes to now, whatever was decided.

        Raises:
            ConfigurationError: a function that returns no ratio; an epoch longer than any data set may be.
            EmptyDatasetError: samples are needed from an empty source.
        """
        if self.count is not None:
            drawn = self.count
        else:
            ratio = self.ratio(epoch) if callable(self.ratio) else self.ratio
            check_ratio(ratio, self.mode, f" at epoch {epoch}" if callable(self.ratio) else "")
            share = ratio if self.mode == "replace" else ratio / (1 - ratio)
            drawn = round(share * self.num_real)
        if drawn and self.num_synthetic < 1:
            raise EmptyDatasetError(
                f"The synthetic source is empty, but {drawn} synthetic samples are needed in epoch {epoch}. "
                "Render or generate some, or set ratio=0."
            )
        if self.mode == "extend" and self.num_real + drawn > _LONGEST:
            raise ConfigurationError(
                f"An epoch must have fewer than 2^63 samples, got {self.num_real} real and {drawn} synthetic ones in "
                f"epoch {epoch}. No sampler could count them. Give a smaller `count` or `ratio`."
            )
        return drawn
