"""`MovingParts`: the data sets of a mix that change with the epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch.utils.data import get_worker_info

from torchgenaug.errors import RepeatedEpochWarning, StateMismatchError
from torchgenaug.mixing.dataset.map_source import MapSource


class MovingParts:
    """Takes the real data set and the synthetic source to an epoch, as far as they have ``set_epoch``.

    Args:
        data_sets: returns the real data set, of which each process has a copy, and the synthetic source: a `MapSource`,
            of which each process has a copy, too; or a source that all processes share, such as a pool, which only the
            process that built it can move. A function, because MONAI's DataLoader walks over attributes and would
            seed the real data set once more where it finds it again.
        epoch: where they are.
    """

    def __init__(self, data_sets: Callable[[], tuple[Any, Any]], epoch: int) -> None:
        self._data_sets = data_sets
        self.epoch = epoch

    @property
    def _copied(self) -> list[Any]:
        real, source = self._data_sets()
        return [real, source] if isinstance(source, MapSource) else [real]

    @property
    def _shared(self) -> Any:
        source = self._data_sets()[1]
        return None if isinstance(source, MapSource) else source

    @property
    def can_move_here(self) -> bool:
        """Whether this process can go to another epoch: no worker can, where the source is shared and has epochs."""
        return get_worker_info() is None or getattr(self._shared, "epoch", None) is None

    def go_to(self, epoch: int) -> None:
        """Moves all of them."""
        self.follow(epoch)
        _set_epoch(self._shared, epoch)

    def follow(self, epoch: int) -> None:
        """Moves the copies of this process, after another process went to this epoch."""
        self.epoch = epoch
        for dataset in self._copied:
            _set_epoch(dataset, epoch)


def check_at_epoch(source: object, epoch: int) -> None:
    """Raises `StateMismatchError` if somebody else moved the synthetic source to another epoch."""
    if getattr(source, "epoch", epoch) not in (epoch, None):
        raise StateMismatchError(
            f"`synthetic` must be at the epoch of the mix, {epoch}, got {getattr(source, 'epoch', None)}. Its "
            f"samples are not those of this epoch. Call mixed.set_epoch({epoch}) before the first batch, in the "
            "process that built the pool; and give each mix a pool of its own."
        )


def warn_of_repetition(epoch: int, times: str, reason: str) -> None:
    """Warns that an epoch is read again."""
    warnings.warn(
        f"Epoch {epoch} was read more than {times}. Each pass replaces the same samples and draws the same random "
        f"transforms. {reason}. Call dataset.set_epoch(epoch) at the start of every epoch.",
        RepeatedEpochWarning,
        stacklevel=5,
    )


def _set_epoch(dataset: Any, epoch: int) -> None:
    move = getattr(dataset, "set_epoch", None)
    if callable(move):
        move(epoch)
