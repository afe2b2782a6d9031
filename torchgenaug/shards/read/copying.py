"""Copies samples out of open shards into a batch, decoded where they are compressed, and compares their checksums."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy.typing as npt
import xxhash
from torch.utils.data import get_worker_info

from torchgenaug.shards.read.blosc import PlainBloscRows
from torchgenaug.shards.read.chunks import BloscRows
from torchgenaug.shards.read.content import ShardFault
from torchgenaug.shards.read.layout import corrupt
from torchgenaug.shards.read.opened import OpenShard

Marks: TypeAlias = Mapping[int, bytearray | MutableMapping[int, int]]
"""Shard index → row → not 0 where the row was compared before."""

_SHARED_BYTES = 1 << 18
"""From here on a second thread decodes, too: it takes 0.1 ms to start. One sample of 16 KiB decodes in 7 to 30 µs."""


def marks_of(shards: Mapping[int, OpenShard], column: int, known: Mapping[int, list[bytearray] | None]) -> Marks:
    """Which rows of a field need not be compared.

    Args:
        shards: shard index → open shard.
        column: which field.
        known: shard index → what its `SeenRows.marks` gave; None to compare all its rows.
    """
    # A throw-away dict for a shard that may change: each row is compared once in a call, and again in the next.
    return {index: defaultdict(int) if (marks := known.get(index)) is None else marks[column] for index in shards}


def copy_rows(
    out: npt.NDArray[Any],
    shards: Mapping[int, OpenShard],
    indices: Sequence[int],
    rows: Sequence[int],
    column: int,
    ids: Sequence[int] | None,
    marks: Marks | None = None,
) -> list[int]:
    """Copies sample ``rows[k]`` of ``shards[indices[k]]`` into ``out[k]``, and checks it while it is in the cache.

    Args:
        out: (n, *shape) of the stored dtype, C-contiguous, n > 0.
        shards: shard index → open shard.
        indices: n shard indices.
        rows: n positions in those shards.
        column: which field.
        ids: n sample ids, the salts of the checksums; None to check nothing.
        marks: which rows were compared before, and are not again; filled. None to compare each, repeated ones again.

    Returns:
        The k whose checksum is wrong.

    Raises:
        ShardCorruptError: a compressed sample that cannot be decoded, or a file that was cut meanwhile.
    """
    if shards[indices[0]].compressed[column] is not None:
        return _decode(out, shards, indices, rows, column, ids, marks)
    digest, columns = xxhash.xxh3_64_intdigest, len(shards[indices[0]].maps)
    content = out.reshape(-1).data.cast("B")
    size = len(content) // len(rows)
    sums = {index: shard.sums for index, shard in shards.items()}
    wrong: list[int] = []
    # The hot loop of every read. Slices of memoryviews cost less than any per-row operation of numpy or torch, and a
    # row that has just been copied is hashed at the speed of the cache.
    maps = {index: shard.maps[column] for index, shard in shards.items()}
    end, index = 0, indices[0]
    try:
        if ids is None:
            for index, row in zip(indices, rows, strict=True):
                start, first = end, row * size
                end = start + size
                content[start:end] = maps[index][first : first + size]
            return wrong
        if marks is None:  # a loop of its own: to look up and to note a row takes as long as to hash 8 KiB
            for index, row, salt in zip(indices, rows, ids, strict=True):
                start, first = end, row * size
                end = start + size
                content[start:end] = source = maps[index][first : first + size]
                if digest(source, salt) != sums[index][row * columns + column]:
                    wrong.append(start // size)
            return wrong
        for index, row, salt in zip(indices, rows, ids, strict=True):
            start, first = end, row * size
            end = start + size
            content[start:end] = source = maps[index][first : first + size]
            if marks[index][row]:
                continue
            if digest(source, salt) != sums[index][row * columns + column]:
                wrong.append(start // size)
            else:
                marks[index][row] = 1
    except ShardFault as error:
        raise corrupt(shards[index].path, shards[index].ids, str(error)) from error
    return wrong


def _decode(
    out: npt.NDArray[Any],
    shards: Mapping[int, OpenShard],
    indices: Sequence[int],
    rows: Sequence[int],
    column: int,
    ids: Sequence[int] | None,
    marks: Marks | None,
) -> list[int]:
    """`copy_rows` for a compressed field."""
    seen = marks_of(shards, column, {}) if marks is None else marks
    digest, columns, count = xxhash.xxh3_64_intdigest, len(shards[indices[0]].maps), len(rows)
    address, size, content = out.ctypes.data, out[0].nbytes, out.reshape(-1).data.cast("B")

    def decode(part: range) -> list[int]:
        wrong = []
        for k in part:
            shard, row = shards[indices[k]], rows[k]
            source = shard.compressed[column]
            try:
                if isinstance(source, PlainBloscRows):
                    source.decode(row, address + k * size, size)
                elif source is not None:
                    source.read(row, out[k])
            except (OSError, RuntimeError, ValueError) as error:
                here = range(shard.ids[row], shard.ids[row] + 1)
                raise corrupt(shard.path, here, f"it cannot be decoded ({error})") from error
            if ids is None or seen[indices[k]][row]:
                continue
            if digest(content[k * size : (k + 1) * size], ids[k]) != shard.sums[row * columns + column]:
                wrong.append(k)
            else:
                seen[indices[k]][row] = 1
        return wrong

    through_hdf5 = isinstance(shards[indices[0]].compressed[column], BloscRows)  # which one thread enters at a time
    # Workers of a `DataLoader` share the cores among themselves.
    if count == 1 or size < _SHARED_BYTES or through_hdf5 or _cores() == 1 or get_worker_info() is not None:
        return decode(range(count))
    return _by_two_threads(decode, count)


def _by_two_threads(work: Callable[[range], list[int]], count: int) -> list[int]:
    """What `work` returns for the first and for the second half of ``range(count)``, joined."""
    first: list[list[int]] = []
    errors: list[BaseException] = []

    def first_half() -> None:
        try:
            first.append(work(range(count // 2)))
        except BaseException as error:
            errors.append(error)

    # Not kept from one batch to the next: a process that forks should have one thread.
    helper = threading.Thread(target=first_half, name="torchgenaug-decode")
    try:
        helper.start()
    except RuntimeError:  # no thread is to be had: too many, or the interpreter is ending
        return work(range(count))
    try:
        second = work(range(count // 2, count))
    finally:
        helper.join()
    if errors:
        raise errors[0]
    return first[0] + second


@cache
def _cores() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
