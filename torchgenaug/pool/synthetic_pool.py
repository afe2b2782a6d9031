"""`SyntheticPool`: a moving window of a sequence in memory, made on the fly while training goes on."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import PoolError
from torchgenaug.plan.ranks import find_rank
from torchgenaug.pool import reader
from torchgenaug.pool.arguments import checked_timeout, checked_turn, checked_window
from torchgenaug.pool.assemble import assemble
from torchgenaug.pool.making.filler import Filler
from torchgenaug.pool.stats import PoolStats, summary
from torchgenaug.pool.storage.ring import Ring, Rows
from torchgenaug.pool.texts import CLOSED_TEXT, NOT_OWNER_TEXT, moved_text, still_runs_text
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.sources.dataset import SourceDataset
from torchgenaug.sources.positions import check_scalar_field, checked_positions
from torchgenaug.types import Batch


class SyntheticPool(SourceDataset):
    """The samples of a sequence that an epoch sees, kept in memory and renewed from epoch to epoch.

    Epoch e sees the ids [e·R, e·R + capacity) with ``R = round(refresh · capacity)``: position j holds sample e·R + j,
    in every worker, whatever came before. While epoch e trains, a thread makes what epoch e + 1 adds; `set_epoch`
    waits for what is missing. So the content is exact, and a sample is seen in ceil(capacity / R) epochs at most. A
    jump, backwards too, makes what is missing.

    Where epochs are very long, ``refreshes_per_epoch=P`` moves the window P times an epoch: part p of epoch e sees the
    ids [t·R, t·R + capacity) with ``t = e·P + p``. Which part a batch belongs to must be known from its number, so this
    is for `SyntheticMixLoader`: of N batches, batch b belongs to part ``b·P // N``. A `SyntheticMixDataset`, whose
    samples a sampler asks for in any order, would need all windows of an epoch at once: it refuses such a pool.

    Samples lie in shared memory. DataLoader workers (forked, spawned, persistent) read them there; the model stays in
    the process that built the pool, and a fork waits for the batch in flight (once, with ``persistent_workers=True``).
    A pickled pool is a view: it reads the same memory and follows `set_epoch`, as long as its owner lives.

    Of several ranks, each has a pool whose samples no other has: rank r of W has of every W·B ids in a row the r-th B
    (``B = batch_size``), in this order, and the windows move over those. Together they are the sequence.

    Samples are made in aligned batches of ids [k·B, (k+1)·B): bit-equal to shards rendered with this one, which
    may exceed `capacity`. The pool therefore makes and holds up to 2·(B - 1) samples more than it shows.

    Args:
        sequence: the samples; not used from two threads at once. With ``background="process"`` also a function that
            builds the sequence in that process, so that the model is loaded there only.
        capacity: how many samples an epoch sees, ≥ 1. Memory is taken for about ``capacity · (1 + refresh)`` of them.
        refresh: fraction that is replaced from epoch to epoch, [0, 1]; 0, or what rounds to no sample: frozen.
        refreshes_per_epoch: how often that is done per epoch, P ≥ 1.
        batch_size: samples per call of the model, ≥ 1.
        device: where the samples lie and are handed out; None is host memory. On another device, only the process that
            built the pool can read them.
        background: make samples in a thread, from construction on. ``"process"``: in a spawned process, for models
            whose Python would hold up the training loop's; the sequence must pickle, or be built there. False: make a
            whole window in `set_epoch`, or in the first `read`, of the process that built the pool. The samples are
            identical.
        timeout_s: how long one batch may take while somebody waits for it, > 0.
        shards: a render of this very sequence, as a `ShardSource` or the path of its folder: samples that it holds are
            read, not made. They have the bits that the render gave them, which are the pool's own if it was rendered
            with the same `batch_size`, thread count and versions, and differ by 1e-4 at most otherwise.
        rank: which of the processes that train together this is, in ``range(world_size)``; None: as `torch.distributed`
            says where it is initialized, else the environment's RANK.
        world_size: how many there are; None: likewise, or WORLD_SIZE. With ``rank=0, world_size=1`` all processes have
            the same samples: then a mixed sample does not depend on the rank that draws it.
        offload: keep the weights of the model in pinned host memory while nothing is missing, so that the training has
            their place on the GPU. Until the pool is closed, nothing but pools with `offload` may use the model then.
        memory_limit: how much memory the model may take, its weights included: bytes, or a fraction of the GPU's, or of
            what the host has free for a model on the CPU, (0.0, 1.0]. Where that does not suffice, the model is given
            fewer samples at once. With ``background="process"`` only: a thread's memory is that of the training, too.

    Where memory runs out, the model is given half as many samples at once from then on, `stats.call_size`; their last
    bits may differ.

    Raises:
        ConfigurationError: an argument outside its domain; a capacity that does not fit into memory; `shards` of
            another sequence, or with rounded values (``dtype=`` of `render_shards`).
        ShardError: `shards` cannot be read.

    Example:
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> with SyntheticPool(SyntheticSequence(AnalyticSynthesizer()), 8, refresh=0.5, batch_size=4) as pool:
        ...     pool.set_epoch(3)
        ...     pool.ids(np.array([0, 7])).tolist(), pool.read(np.array([0, 7]))["image"].shape
        ([12, 19], torch.Size([2, 1, 32, 32]))
    """

    def __init__(
        self,
        sequence: SyntheticSequence | Callable[[], SyntheticSequence],
        capacity: int,
        *,
        refresh: float = 0.25,
        refreshes_per_epoch: int = 1,
        batch_size: int = 32,
        device: torch.device | str | None = None,
        background: bool | Literal["process"] = True,
        timeout_s: float = 600.0,
        shards: SyntheticSource | str | os.PathLike[str] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        offload: bool = False,
        memory_limit: float | None = None,
    ) -> None:
        self.timeout_s = checked_timeout(timeout_s)
        self._window = checked_window(
            capacity, refresh, refreshes_per_epoch, batch_size, find_rank(rank, world_size), ahead=bool(background)
        )
        made = assemble(
            sequence,
            self._window,
            background=background,
            device=device,
            timeout_s=self.timeout_s,
            shards=shards,
            offload=offload,
            memory_limit=memory_limit,
        )
        self.fields, self.fingerprint, self._seed = made.fields, made.fingerprint, made.seed
        self.trained_on = made.trained_on
        self._ring: Ring | None = made.ring
        self._filler: Filler | None = made.filler
        self._last_stats: PoolStats | None = None
        self._owner = os.getpid()
        # A collected pool ends its thread; at exit `filler` ends all of them, and waits.
        self._end = weakref.finalize(self, made.filler.stop)
        self._end.atexit = False

    def __len__(self) -> int:
        return self._window.capacity

    @property
    def epoch(self) -> int:
        """The current epoch, 0 at first."""
        return int(self._open_ring().get("turn")) // self._window.parts

    @property
    def part(self) -> int:
        """The current part of the epoch, 0 at first."""
        return int(self._open_ring().get("turn")) % self._window.parts

    @property
    def refresh(self) -> float:
        """The fraction that is replaced each time, rounded to whole samples."""
        return self._window.step / self._window.capacity

    @property
    def world_size(self) -> int:
        """How many processes have a share of the sequence each."""
        return self._window.world_size

    @property
    def refreshes_per_epoch(self) -> int:
        """How many parts an epoch has."""
        return self._window.parts

    def set_epoch(self, epoch: int, part: int = 0) -> None:
        """Goes to an epoch, and returns when all its samples are there. To be called between epochs, by the owner.

        Args:
            epoch: any epoch ≥ 0.
            part: which part of it, in ``range(refreshes_per_epoch)``; `SyntheticMixLoader` goes through them.

        Raises:
            ConfigurationError: not an epoch, or no part of it.
            PoolError: samples could not be made (the model's exception is the cause, with its traceback; call again to
                try again), took longer than `timeout_s`, or the pool is closed, or owned by another process.
        """
        turn = checked_turn(self._window, epoch, part)
        self._open_ring()
        filler = self._own_filler()
        if filler is None:
            raise PoolError(NOT_OWNER_TEXT)
        filler.move(turn)
        filler.wait_for(turn, self._window.batches(turn))

    def read(self, positions: npt.NDArray[np.int64]) -> Batch:
        """Samples at `positions` of the current epoch.

        Args:
            positions: (n,) integers in ``range(len(self))``; repeats allowed.

        Returns:
            field → (n, *spec.shape), new tensors on the pool's device.

        Raises:
            SampleIndexError: a position outside the pool.
            PoolError: the samples could not be made (see `set_epoch`), or the pool is closed, was moved to another
                epoch meanwhile, lies on a device that this process cannot read, or lost its owner.
        """
        positions = self._checked(positions)
        batch = self._open_ring().empty(len(positions), self.fields)
        self.read_into(positions, batch)
        return batch

    def read_into(self, positions: npt.NDArray[np.int64], out: Batch) -> None:
        """`read`, with its errors, into tensors that are there.

        Args:
            positions: as for `read`.
            out: some or all of the fields: each (n, *spec.shape) of the spec's dtype, contiguous, on any device. An
                error leaves them in any state.
        """
        ring, turn, rows = self._copy(self._checked(positions), out)
        if not ring.served(rows):
            raise PoolError(moved_text(ring, turn))

    def ids(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which samples of the sequence `positions` hold in the current epoch: (n,) int64; waits for nothing."""
        return self._window.ids_at(self._checked(positions) + self._window.start(self._open_ring().get("turn")))

    def seeds(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The seeds of these samples: (n,) uint64."""
        return seeding.derive(self._seed, seeding.SAMPLE, self.ids(positions))

    def column(self, field: str) -> Tensor:
        """A scalar field of all samples of the current epoch, in order of position: (len(self),).

        Raises:
            ConfigurationError: no such field, or not a scalar.
            PoolError: as for `read`.
        """
        check_scalar_field(field, self.fields)
        out = self._open_ring().empty(len(self), [field])
        ring, turn, _ = self._copy(np.arange(len(self)), out)
        if not ring.holds(self._window.batches(turn)).all():
            raise PoolError(moved_text(ring, turn))
        return out[field]

    def _copy(self, positions: npt.NDArray[np.int64], out: Batch) -> tuple[Ring, int, Rows]:
        """Copies samples when they are there; the caller checks that the pool did not move meanwhile."""
        ring = self._open_ring()
        turn = ring.get("turn")
        rows = ring.locate(positions, self._window.start(turn))
        reader.copy(ring, self._own_filler(), turn, rows, out, self.timeout_s)
        return ring, turn, rows

    @property
    def stats(self) -> PoolStats:
        """What the pool did so far, in all processes; after `close`, what it did until then."""
        if self._ring is None and self._last_stats is not None:
            return self._last_stats
        return self._open_ring().stats()

    def close(self) -> None:
        """Ends the thread after the batch in flight, and gives the memory back. Reads elsewhere raise from now on.

        Does nothing in another process than the owner's, or when called again.
        """
        filler = self._own_filler()
        if filler is None or self._ring is None:
            return
        if not filler.stop(self.timeout_s):
            warnings.warn(still_runs_text(self.timeout_s), RuntimeWarning, stacklevel=2)
        self._last_stats = self._ring.stats()
        # What ends the thread of a collected pool holds the filler, and that the memory.
        self._end.detach()
        self._ring = self._filler = None

    def __enter__(self) -> SyntheticPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return summary(self.stats, self._window, closed=self._ring is None)

    def __getstate__(self) -> dict[str, Any]:
        ring = self._open_ring()
        if ring.device.type != "cpu":
            raise PoolError(reader.not_here(ring.device))
        kept = ("fields", "fingerprint", "timeout_s", "_seed", "_window", "_owner")
        return {name: getattr(self, name) for name in kept} | {"_ring": ring}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _filler=None, _last_stats=None)

    def _own_filler(self) -> Filler | None:
        """None in a forked worker or a pickled copy, which can only read."""
        return self._filler if os.getpid() == self._owner else None

    def _open_ring(self) -> Ring:
        if self._ring is None:
            raise PoolError(CLOSED_TEXT)
        return self._ring

    def _checked(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return checked_positions(positions, len(self))
