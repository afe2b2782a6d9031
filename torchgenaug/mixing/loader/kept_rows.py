"""`KeptRows`: reads of a `DataLoader`'s batches only the rows that ``mode="replace"`` keeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, default_collate, default_convert

from torchgenaug.plan.batch_plan import EpochPlan
from torchgenaug.seeding import Int64Array

_SETTINGS = (
    "batch_size",
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    "in_order",
)


class Read(NamedTuple):
    """What was read of one batch.

    Attributes:
        size: samples that the loader's batch has.
        draws: the synthetic samples that replace the others; None: all were read, and nothing is decided yet.
    """

    size: int
    draws: range | None


class Part(NamedTuple):
    """What becomes of one batch.

    Attributes:
        size: samples that the loader's batch has, or would have.
        draws: the synthetic samples that it gets.
        kept: how many of its own samples it keeps.
        rows: which of the rows that arrived these are; None: all.
        dropped: fraction of the samples that were read in vain.
    """

    size: int
    draws: range
    kept: int
    rows: Int64Array | None
    dropped: float


def part_of(plan: EpochPlan, batch: int, seen: int, arrived: int, read: Read | None, *, replaces: bool) -> Part:
    """Decides what becomes of batch number `batch`, unless that was decided when it was read.

    Args:
        plan: of the epoch.
        batch: number of the batch.
        seen: samples in the batches before.
        arrived: rows that it has.
        read: what was read of it; None: all.
        replaces: whether synthetic samples replace others, or are added.
    """
    if read is not None and read.draws is not None:
        kept = arrived if read.size > len(read.draws) else 0
        return Part(read.size, read.draws, kept, None if kept else np.zeros(0, np.int64), 0.0)
    draws = plan.draws(seen, arrived)
    kept = arrived - len(draws) if replaces else arrived
    rows = plan.kept(batch, arrived, kept) if kept < arrived else None
    return Part(arrived, draws, kept, rows, len(draws) / arrived if rows is not None else 0.0)


class KeptRows:
    """A `DataLoader` like the user's, with the same samplers, that leaves out the indices of rows that are replaced.

    Which rows of a batch are kept is known before it is read. So where samples are read one by one, or by
    ``__getitems__``, and stacked by torch's own `default_collate`, the others need not be read. The batches that come
    out are the same if a sample depends on its index alone. Which rows are left out depends on the plan alone, never
    on what was read before: a resumed run reads the same rows in the same workers, so that transforms which draw from
    a worker's random state draw the same numbers, too.

    Args:
        loader: for which `applies` is true; it is left as it is.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader, self._twin = loader, loader
        self._settings: dict[str, Any] = {}
        self._plan: tuple[EpochPlan, int, int] | None = None
        self._reads: deque[Read | None] = deque()

    @staticmethod
    def applies(loader: Any) -> bool:
        """Whether rows of a loader may stay unread: a plain `DataLoader` over a map-style data set, torch's collating.

        Without torch's batches (``batch_size=None``) a list of indices may give any number of rows. Subclasses, other
        functions that collate, and `torchio.Queue`, whose samples do not depend on the index, may do anything with the
        rows that they see.
        """
        return (
            type(loader) is DataLoader
            and loader.batch_sampler is not None
            and not isinstance(loader.dataset, IterableDataset)
            and loader.collate_fn in (default_collate, default_convert)
            and loader.in_order
            and not (type(loader.dataset).__name__ == "Queue" and type(loader.dataset).__module__.startswith("torchio"))
        )

    def begin(self, plan: EpochPlan, batch: int, seen: int) -> None:
        """Says what the next pass mixes: its plan, and how many samples `seen` come before batch number `batch`."""
        self._plan = plan, batch, seen

    def __iter__(self) -> Iterator[tuple[Any, Read | None]]:
        """A pass: each batch, and what was read of it (None: what the sampler gave is no list of indices)."""
        reads: deque[Read | None] = deque()
        self._reads = reads
        batches = iter(self._same_loader())
        return ((batch, reads.popleft()) for batch in batches)

    def thinned(self, lists: Iterator[Any]) -> Iterator[Any]:
        """The lists of indices of a pass without those that are not kept; notes what is read."""
        return _thinned(lists, self._plan, self._reads)  # those of the pass that begins now

    def _same_loader(self) -> DataLoader[Any]:
        """A loader with the settings of the user's, as they are now; the same one again, for workers that persist."""
        loader = self._loader
        settings = {name: getattr(loader, name) for name in _SETTINGS}
        if settings != self._settings:
            self._settings = settings
            options = {name: value for name, value in settings.items() if name != "batch_size"}
            self._twin = DataLoader(loader.dataset, batch_sampler=_Thinned(self, loader.batch_sampler), **options)
        return self._twin


def _thinned(lists: Iterator[Any], plan: tuple[EpochPlan, int, int] | None, reads: deque[Read | None]) -> Iterator[Any]:
    seen = 0
    for batch, indices in enumerate(lists):
        if plan is None or type(indices) is not list or not indices:
            reads.append(None)
            yield indices
            continue
        epoch, first, seen_before = plan
        seen = seen_before if batch == first else seen
        size = len(indices)
        draws = epoch.draws(seen, size)
        seen += size
        if not draws:
            reads.append(Read(size, None))
            yield indices
            continue
        # One row at least: it shows what the synthetic ones must look like.
        kept = epoch.kept(batch, size, size - len(draws)).tolist() or [0]
        reads.append(Read(size, draws))
        yield [indices[row] for row in kept]


class _Thinned:
    """A batch sampler that gives the lists of another one, thinned."""

    def __init__(self, kept: KeptRows, lists: Any) -> None:
        self._kept, self._lists = kept, lists

    def __len__(self) -> int:
        return len(self._lists)

    def __iter__(self) -> Iterator[Any]:
        return self._kept.thinned(iter(self._lists))  # begins now, as a DataLoader's own would: it may draw an order
