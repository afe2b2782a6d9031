"""`MovingSource`: a source of synthetic samples, moved to the epoch and process of each batch before it is read."""

from __future__ import annotations

from typing import Any

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, StateMismatchError
from torchgenaug.mixing.loader.wrapped import WrappedLoader
from torchgenaug.sequence.sequence import SyntheticSequence


class MovingSource:
    """A source, and when it moves.

    The batches of an epoch are read in order, so a source that changes within an epoch can be where a batch needs it:
    of N batches, batch b belongs to part ``b·P // N``. That is a function of the batch's number, whatever came before.

    Args:
        source: the source.
        loader: the loader whose batches it is mixed into.

    Raises:
        ConfigurationError: not a source; or one that changes within an epoch, for a loader that does not know how many
            batches that has.
    """

    def __init__(self, source: SyntheticSource, loader: WrappedLoader) -> None:
        _check_source(source)
        self.source, self._loader = source, loader
        self.parts = int(getattr(source, "refreshes_per_epoch", 1))
        if self.parts > 1 and loader.num_batches is None:
            raise ConfigurationError(
                f"`loader` must know its number of batches for a pool with refreshes_per_epoch={self.parts}, got "
                f"{type(loader.loader).__name__} without len(). Which samples a batch gets would not follow from its "
                "number. Give the loader (or its IterableDataset) a __len__, or build the pool with "
                "refreshes_per_epoch=1."
            )
        self._part: int | None = None

    @property
    def epoch(self) -> int | None:
        """Where the source is, if it says so; -1 if its parts are at different epochs."""
        epoch = getattr(self.source, "epoch", None)
        return epoch if isinstance(epoch, int) else None

    @property
    def is_per_rank(self) -> bool:
        """Whether each of the processes that train together has samples of its own."""
        return int(getattr(self.source, "world_size", 1)) > 1

    def move(self, epoch: int, batch: int) -> None:
        """Takes the source to where batch number `batch` of `epoch` is read. A pool makes its samples ready."""
        move: Any = getattr(self.source, "set_epoch", None)
        if not callable(move):
            return
        if self.parts == 1:
            move(epoch)
        else:
            self._part = None
            part = self._part_of(batch)
            move(epoch, part)
            self._part = part

    def begin(self, epoch: int, batch: int) -> None:
        """To be called when a pass begins: takes the source there if it is known to be elsewhere."""
        if self.parts > 1 or self.epoch not in (None, epoch):
            self.move(epoch, batch)

    def follow(self, epoch: int, batch: int) -> None:
        """To be called before a batch is read.

        Raises:
            StateMismatchError: somebody else moved the source.
        """
        there = self.epoch
        if there is not None and there != epoch:
            raise StateMismatchError(
                f"`synthetic` must be at the epoch of the mix, {epoch}, got {there}. Its samples are not those of "
                "this epoch. Call set_epoch on this mix; and give each mix a pool of its own."
            )
        # The part of a pool, rather than the one that it was taken to: somebody else may have moved it.
        if self.parts > 1 and getattr(self.source, "part", self._part) != self._part_of(batch):
            self.move(epoch, batch)

    def _part_of(self, batch: int) -> int:
        return min(batch * self.parts // max(1, self._loader.num_batches or 1), self.parts - 1)


def _check_source(synthetic: object) -> None:
    if isinstance(synthetic, SyntheticSource):
        return
    if isinstance(synthetic, SyntheticSequence):
        raise ConfigurationError(
            "`synthetic` must be a source that holds samples ready, got a SyntheticSequence, which makes them one "
            "call at a time. Wrap it: SyntheticPool(sequence, capacity=256), or "
            "render_shards(sequence, 'shards', count=1000)."
        )
    raise ConfigurationError(
        "`synthetic` must be a source that is read in whole batches (SyntheticPool, ShardSource), got "
        f"{type(synthetic).__name__}. Mix a map-style data set with SyntheticMixDataset(real, synthetic) instead."
    )
