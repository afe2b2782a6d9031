"""`DecidedCounts`: what a ratio that is a function came to, epoch by epoch, so that it is called once per epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from torchgenaug.errors import ConfigurationError
from torchgenaug.seeding import Int64Array

MOST_EPOCHS = 1 << 16
"""Epochs that a ratio which is a function serves: it has to be called for each epoch before."""

_UNDECIDED = -1


class DecidedCounts:
    """Numbers of synthetic samples of the epochs that were decided. Pickles as small as it is filled.

    A training loop may change what the function returns (a validation score, say). The number of an epoch that has
    begun stays, for `counts` and for all workers.

    Args:
        numbers: (MOST_EPOCHS,) int64 that holds them, in shared memory for example; None: a new array.
    """

    def __init__(self, numbers: Int64Array | None = None) -> None:
        self.numbers = np.full(MOST_EPOCHS, _UNDECIDED, np.int64) if numbers is None else numbers
        self._sums = [0]

    def of(self, epoch: int) -> int | None:
        """The number of an epoch, None where it is not decided.

        Raises:
            ConfigurationError: an epoch beyond the last.
        """
        check_evaluated(epoch)
        number = int(self.numbers[epoch])
        return None if number == _UNDECIDED else number

    def decide(self, epoch: int, number_of: Callable[[int], int]) -> None:
        """Decides all epochs up to `epoch` that are not decided."""
        self.of(epoch)
        for each in np.flatnonzero(self.numbers[: epoch + 1] == _UNDECIDED).tolist():
            self.numbers[each] = number_of(each)

    def sum_before(self, epoch: int) -> int:
        """The sum over the epochs before `epoch`, which are decided."""
        while len(self._sums) <= epoch:
            self._sums.append(self._sums[-1] + int(self.numbers[len(self._sums) - 1]))
        return self._sums[epoch]

    def to_list(self) -> list[int]:
        """The numbers from epoch 0 on, as far as they are decided."""
        undecided = np.flatnonzero(self.numbers == _UNDECIDED)
        decided: list[int] = self.numbers[: undecided[0] if len(undecided) else None].tolist()
        return decided

    def restore(self, numbers: list[int]) -> None:
        """Goes back to numbers that `to_list` returned."""
        self.numbers[:] = _UNDECIDED
        self.numbers[: len(numbers)] = numbers
        self._sums = [0]

    def __getstate__(self) -> list[int]:
        return self.to_list()

    def __setstate__(self, state: list[int]) -> None:
        self.numbers = np.full(MOST_EPOCHS, _UNDECIDED, np.int64)
        self.restore(state)


def check_evaluated(epoch: int) -> None:
    """Raises `ConfigurationError` for an epoch before which a function would be called too often."""
    if epoch >= MOST_EPOCHS:
        raise ConfigurationError(
            f"`epoch` must be below {MOST_EPOCHS} where the ratio is a function, got {epoch}. It would be called for "
            "each epoch before. Give a constant ratio, or count epochs from 0."
        )
