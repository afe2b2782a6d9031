"""`Rows`: the samples of a batch that was read at once; torch's `default_collate` need not stack them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from torchgenaug.types import Batch, Sample


class Row(dict[str, Tensor]):
    """A sample of `Rows`. A dict in all respects; its type leads `default_collate` to `collate_rows`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # copied and pickled it is a plain one


class Rows(Sequence[Sample]):
    """The samples of a batch, views of its tensors that come into being when they are looked at.

    A view and a dict for each sample take as long as a sample of 16 KiB takes to be copied.

    Args:
        batch: field → (n, …), n ≥ 1, newly allocated.
    """

    __slots__ = ("_batch", "_rows")

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._rows: list[Row | None] = [None] * len(next(iter(batch.values())))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        row = self._rows[place]
        if row is None:
            self._rows[place] = row = Row({name: values[place] for name, values in self._batch.items()})
        return row

    def __iter__(self) -> Iterator[Sample]:
        if not any(self._rows):  # all at once are cheaper
            columns = [values.unbind(0) for values in self._batch.values()]
            self._rows = [Row(zip(self._batch, row, strict=True)) for row in zip(*columns, strict=True)]
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (Rows, list)) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ([dict(row) for row in self],)

    def stacked(self) -> Batch | None:
        """The batch, if no sample was changed since; what was written into its tensors lies in those of the batch."""
        for place, row in enumerate(self._rows):
            if row is None:
                continue
            if row.keys() != self._batch.keys():
                return None
            for name, values in self._batch.items():
                mine, first = row[name], values[place]
                same = type(mine) is Tensor and mine._base is first._base and mine.data_ptr() == first.data_ptr()
                if not same or (mine.shape, mine.stride()) != (first.shape, first.stride()):
                    return None
        return dict(self._batch)


def collate_rows(rows: Sequence[Sample], *, collate_fn_map: Any = None) -> dict[str, Any]:
    """What `torch.utils.data.default_collate` makes of samples: of those of one read the batch, without a copy.

    Samples of several reads, in another order, or of which something was replaced, are stacked as any others.
    """
    batch = rows.stacked() if isinstance(rows, Rows) else None
    if batch is not None:
        return batch
    plain: dict[str, Any] = collate([dict(row) for row in rows], collate_fn_map=collate_fn_map)
    return plain


default_collate_fn_map[Row] = collate_rows
