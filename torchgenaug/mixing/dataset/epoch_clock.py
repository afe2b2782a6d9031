"""`EpochClock`: the epoch of a mix, in shared memory; it moves on with each pass over the data unless it is set.

Half of all training loops never call ``set_epoch``, and some trainers call it on the sampler alone. A pass announces
itself in two ways. torch's own samplers ask for the length of their data set exactly once when a pass begins, in the
process that runs the training loop: there even a pool can be moved, and a sampler that knows its epoch (that of
accelerate, `DistributedSampler`) says it. Any other sampler is noticed where the samples are read: a `DataLoader` makes
a new fetcher for each pass, in each of its workers.

Who reads first in a pass moves the epoch, and the others follow. The epoch and the number of the move are one integer,
written at once: two workers that notice the same pass at the same time write the same.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.data import get_worker_info

from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.loader_calls import ACCELERATE, find_fetcher, resumed_state, saved_epoch
from torchgenaug.mixing.dataset.shared import shared

# Where torch's samplers call len() of their data set at the start of a pass, by module and function.
_PASS_BEGINS = frozenset(
    {
        ("torch.utils.data.sampler", "__iter__"),
        ("torch.utils.data.distributed", "__iter__"),
        ("torchgenaug.mixing.dataset.rank_sampler", "__iter__"),
        ("torchdata.stateful_dataloader.sampler", "__init__"),  # of the iterator that its RandomSampler returns
    }
)

_MOVES = 1 << 20  # numbers of moves before they begin anew
_MOST_EPOCHS = (1 << 63) // _MOVES
_NOW, _NUM_READ, _IS_SET, _SAMPLER_EPOCH, _SAMPLER_BEGAN, _TRAINER_EPOCH, _TRAINER_BEGAN = range(7)
_RESUMED, _READ_BY_HAND, _READERS = 7, 8, 9  # what is at the current move from _READ_BY_HAND on was read in it
# At _READERS is the first of the places for readers: one for the main process, the others for workers.
_MOST_READERS = 128
_JUST_SET = -1
_FREE, _FIXED, _RESTORED = range(3)  # values of _IS_SET


def checked_epoch(epoch: int) -> int:
    """`epoch`; raises `ConfigurationError` for one that an `EpochClock` cannot hold."""
    if isinstance(epoch, int) and epoch >= _MOST_EPOCHS:
        raise ConfigurationError(f"`epoch` must be below 2^43, got {epoch!r}. Count epochs from 0.")
    return epoch


class EpochClock:
    """The epoch, shared by all workers of a process. Plain pickle copies it.

    Args:
        epoch: the first one.
    """

    _last_fetcher: Callable[[], Any]

    def __init__(self, epoch: int) -> None:
        self._cells = shared(torch.zeros(_READERS + _MOST_READERS, dtype=torch.int64))
        self._share()
        self._shared[_NOW] = epoch * _MOVES + 1
        self._shared[_SAMPLER_EPOCH] = self._shared[_TRAINER_EPOCH] = -1

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return int(self._shared[_NOW]) // _MOVES

    @property
    def was_just_set(self) -> bool:
        """Whether the epoch was set by the training loop, and nothing was read since."""
        return bool(self._shared[_NUM_READ] == _JUST_SET)

    def set(self, epoch: int) -> None:
        """Goes to an epoch that the training loop names, and stays there until a sampler goes further, or the loop."""
        self.move(epoch)
        self._shared[_IS_SET], self._shared[_NUM_READ] = _FIXED, _JUST_SET

    def restore(self, epoch: int, *, in_pass: bool) -> None:
        """Goes to the epoch of a saved state; further passes move on.

        Args:
            epoch: of the state.
            in_pass: whether a loader goes on in the middle of it: if nothing is left of it, the next pass is the next
                epoch all the same.
        """
        cells = self._ints
        if get_worker_info() is not None and cells[_IS_SET] == _RESTORED and not cells[_NUM_READ]:
            epoch = max(epoch, self.epoch)  # another worker, restored just before, had reached the next epoch already
        if epoch != self.epoch:  # else workers that are restored one by one would each begin another pass
            self.move(epoch)
        self._shared[_IS_SET], self._shared[_TRAINER_BEGAN] = _RESTORED, 0
        if in_pass:
            self._shared[_RESUMED], self._shared[_SAMPLER_BEGAN] = int(self._shared[_NOW]) % _MOVES, 0

    def move(self, epoch: int) -> None:
        """Goes to an epoch; all passes that were noticed are over."""
        self._write(epoch, int(self._shared[_NOW]))

    def move_with_sampler(self, epoch: int) -> None:
        """Goes to the epoch that `after_sampler` returned."""
        self._shared[_SAMPLER_BEGAN] = self._write(epoch, int(self._shared[_NOW]))

    def move_with_reader(self, count: int) -> int:
        """Goes one epoch further, where `reads` noticed another pass, and counts the read; returns the epoch."""
        now, place = self._noticed
        # From what was seen then: a worker that noticed the same pass meanwhile writes the same number.
        self._shared[place] = self._write(now // _MOVES + 1, now)
        self._shared[_NUM_READ] = count
        return int(now // _MOVES + 1)

    def _write(self, epoch: int, before: int) -> int:
        move = (before % _MOVES + 1) % _MOVES or 1
        self._shared[_NOW] = epoch * _MOVES + move
        self._shared[_NUM_READ] = 0
        return move

    def after_sampler(self) -> int | None:
        """The epoch to be in, the current one or another, if the caller's caller is a sampler that begins a pass."""
        frame = sys._getframe(2)
        # In a worker samplers say nothing of the pass: an IterableDataset may use one for a purpose of its own.
        if get_worker_info() is not None or (frame.f_globals.get("__name__"), frame.f_code.co_name) not in _PASS_BEGINS:
            return None
        shared = self._shared
        sampler = frame.f_locals.get("sampler", frame.f_locals.get("self"))
        named = getattr(sampler, "epoch", None)
        said = named if isinstance(named, int) and named >= 0 else -1
        before = int(shared[_SAMPLER_EPOCH])
        shared[_SAMPLER_EPOCH] = said
        epoch, move = divmod(int(shared[_NOW]), _MOVES)
        is_second = shared[_SAMPLER_BEGAN] == move
        shared[_SAMPLER_BEGAN] = move
        if (state := resumed_state(frame)) is not None:
            return self._goes_on(state, epoch, move)
        is_restored = shared[_IS_SET] == _RESTORED and type(sampler).__module__ == ACCELERATE
        if shared[_RESUMED] == move:  # torchdata's own samplers began the pass that goes on before it was restored
            is_restored, is_second = True, is_second or frame.f_code.co_name == "__init__"
        if is_second and is_restored:
            return epoch + 1  # nothing was left of the first
        if (shared[_READ_BY_HAND:] == move).any():
            if said > before >= 0:
                # The second case: a mix that was set, or a sampler that began elsewhere, goes on by as many epochs.
                return said if said == epoch + 1 else epoch + said - before
            return epoch + int(shared[_IS_SET] != _FIXED)
        # The first pass: a run that goes on from a checkpoint begins with the epoch of its sampler.
        return said if said > epoch and before < 0 and shared[_IS_SET] == _FREE else epoch

    def _goes_on(self, state: Mapping[str, Any], epoch: int, move: int) -> int:
        """The epoch to be in, where torchdata's loader with workers goes on from a state.

        Its workers restore the mix, but only this process can move a pool; it looks again when they have done so.
        """
        if not self.was_just_set:
            epoch = saved_epoch(state, otherwise=epoch)
        if state.get("_iterator_finished"):
            return epoch + int(self._shared[_IS_SET] != _FIXED)  # a loader that begins the next pass follows at once
        # What workers fetched before the state was loaded was no pass of its own.
        self._shared[_READ_BY_HAND], self._shared[_READERS:] = move, 0
        return epoch

    def after_trainer(self, passes: int, *, begun_ahead: bool = False) -> int:
        """The epoch to be in, where a trainer's loader begins a pass and says how many it has begun before.

        Such a count begins anew in a run that goes on from a checkpoint, and where batches are skipped: it says that
        there is another pass, not which epoch it is.

        Args:
            passes: how many.
            begun_ahead: workers may have read the first samples of this pass before: they are no pass of their own.
        """
        cells = self._ints
        before, cells[_TRAINER_EPOCH] = cells[_TRAINER_EPOCH], passes
        epoch, move = divmod(cells[_NOW], _MOVES)
        is_first = begun_ahead or not (cells[_TRAINER_BEGAN] == move or (self._shared[_READ_BY_HAND:] == move).any())
        if is_first and cells[_IS_SET] == _FREE:
            epoch = max(epoch, passes)
        elif not is_first:
            epoch += passes - before if passes > before else int(cells[_IS_SET] != _FIXED)
        return epoch

    def move_with_trainer(self, epoch: int) -> None:
        """Goes to the epoch that `after_trainer` returned."""
        if epoch != self.epoch:
            self._write(epoch, int(self._shared[_NOW]))
        self._shared[_TRAINER_BEGAN] = int(self._shared[_NOW]) % _MOVES

    def ended(self) -> dict[str, bool]:
        """What a saved state says if the pass that reads the epoch has ended: nothing where another process reads."""
        cells = self._ints
        is_seen = get_worker_info() is None and cells[_READERS] == cells[_NOW] % _MOVES
        is_over = is_seen and cells[_IS_SET] != _FIXED and self._last_fetcher() is None
        return {"finished": True} if is_over else {}

    def reads(self, count: int) -> tuple[int, int, bool]:
        """To be called before samples are read.

        Returns:
            The epoch, the number of samples read in it so far, and whether this read begins another pass, so that the
            epoch has to move first (then nothing was counted).
        """
        cells = self._ints
        now, num_read = cells[_NOW], cells[_NUM_READ]
        move = now % _MOVES
        fetcher = find_fetcher()
        if fetcher is None:
            if cells[_SAMPLER_BEGAN] == move:
                cells[_READ_BY_HAND] = move
        else:
            worker = get_worker_info()
            place = _READERS + (0 if worker is None else 1 + worker.id % (_MOST_READERS - 1))
            if fetcher is not self._last_fetcher() and fetcher not in self._fetchers:
                self._fetchers.add(fetcher)
                self._last_fetcher = weakref.ref(fetcher)  # compared first: a look into the set takes 1 µs
                if cells[place] == move and cells[_IS_SET] != _FIXED:
                    self._noticed = (now, place)
                    return now // _MOVES, num_read, True
            cells[place] = move
        cells[_NUM_READ] = (0 if num_read == _JUST_SET else num_read) + count
        return now // _MOVES, num_read, False

    def forget_reads(self) -> None:
        """Counts as if the epoch had hardly been read: after a warning, which is given once."""
        self._shared[_NUM_READ] = -(1 << 62)

    def _share(self) -> None:
        self._shared = self._cells.numpy()  # the same memory: a read and a write by numpy take 0.2 µs, by torch 4
        self._ints = self._shared.data  # once more, for single integers in every batch
        self._fetchers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._last_fetcher = _nothing
        self._noticed = (0, _READERS)

    def __getstate__(self) -> dict[str, Any]:
        return {"_cells": self._cells}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        # Plain pickle copies; the copy's workers must see its epoch change, too.
        self._cells = shared(state["_cells"])
        self._share()


def _nothing() -> None:
    """Stands for a reference to a fetcher before there is one."""
