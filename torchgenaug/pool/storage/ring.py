"""`Ring`: the samples of a pool, which of them are there, and how often each was served, as all processes see them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.devices import synchronize, wait_for_stream
from torchgenaug.pool.making.supply import Delivery
from torchgenaug.pool.stats import PoolStats
from torchgenaug.pool.storage.memory import SharedMemory
from torchgenaug.pool.storage.window import Window
from torchgenaug.sources.positions import FEW, index_tensor
from torchgenaug.types import Batch, FieldSpec

# What the pool is doing, as readers in other processes see it.
RUNNING, SYNCHRONOUS, FAILED, CLOSED = range(4)

_CPU = torch.device("cpu")
_ALIGNMENT = 64
_TEXT_BYTES = 8192
_NUMBERS = (
    *("owner", "turn", "status", "making", "text_length", "generated", "served", "loaded", "call_size"),
    *("memory_failures", "retired", "retired_reuse_max"),
)
_TIMES = ("fill_s", "wait_s", "worker_wait_s", "progress_at_s")
_NUMBER_AT = {name: at for at, name in enumerate(_NUMBERS)}
_TIME_AT = {name: at for at, name in enumerate(_TIMES)}
# Between two training steps nothing is in the processor's cache, and the first use of a numpy function costs 10 to 20
# µs. So few samples are located and counted by Python's own integers; many, by numpy.


class Rows(NamedTuple):
    """Where samples lie in a ring.

    Attributes:
        slots: (n,) int64, on the device of the samples.
        batches: the line's batches that they belong to.
        counted: (n,) the same slots, for the counts: a list where they are few.
    """

    slots: Tensor
    batches: set[int]
    counted: list[int] | npt.NDArray[np.int64]


class Ring:
    """Storage of `Window.num_slots` samples. One process writes; all may read.

    A table says which batch each place holds, -1 for none. The writer empties the entry, then writes the samples, then
    enters the new batch; a reader looks before and after it copies. So no reader ever takes one sample for another.

    Args:
        window: the arithmetic.
        fields: what every sample holds.
        device: where the samples lie. Those on the CPU lie in shared memory; those on another device can be read in the
            owner's process only. Bookkeeping is always shared.

    Raises:
        OSError: there is no room.
    """

    def __init__(self, window: Window, fields: Mapping[str, FieldSpec], device: torch.device) -> None:
        self.window, self.fields, self.device = window, dict(fields), device
        self._is_elsewhere = device.type != "cpu"
        self.memory = SharedMemory(_layout(window, fields, device)[1])
        self._map()
        self.data = {
            name: self._shared_field(name, spec)
            if device.type == "cpu"
            else torch.zeros((window.num_slots, *spec.shape), dtype=spec.dtype, device=device)
            for name, spec in fields.items()
        }
        self._table.fill(-1)
        self.set("owner", os.getpid())
        self.set("making", -1)
        self.set("call_size", window.batch_size)

    @staticmethod
    def num_bytes(window: Window, fields: Mapping[str, FieldSpec], device: torch.device) -> int:
        """Size of the shared memory."""
        return _layout(window, fields, device)[1]

    def _map(self) -> None:
        offsets, _ = _layout(self.window, self.fields, self.device)
        self._places, self._slots = self.window.num_places, self.window.num_slots
        buffer = self.memory.buffer
        self._numbers = _items(buffer, offsets["numbers"], len(_NUMBERS), "q")
        self._times = _items(buffer, offsets["times"], len(_TIMES), "d")
        self._text = np.frombuffer(buffer, np.uint8, _TEXT_BYTES, offsets["text"])
        self._table = np.frombuffer(buffer, np.int64, self._places, offsets["table"])
        self._counts = np.frombuffer(buffer, np.int64, self._slots, offsets["counts"])
        # The same memory; to index it costs 30 ns rather than 100.
        self._table_items = _items(buffer, offsets["table"], self._places, "q")
        self._count_items = _items(buffer, offsets["counts"], self._slots, "q")

    def _shared_field(self, name: str, spec: FieldSpec) -> Tensor:
        offset = _layout(self.window, self.fields, self.device)[0][f"field {name}"]
        count = self._slots * math.prod(spec.shape)
        flat = torch.frombuffer(self.memory.buffer, dtype=spec.dtype, count=count, offset=offset)
        return flat.reshape(self._slots, *spec.shape)

    def get(self, name: str) -> Any:
        """A number of the shared state."""
        at = _NUMBER_AT.get(name)
        return self._times[_TIME_AT[name]] if at is None else self._numbers[at]

    def set(self, name: str, value: float) -> None:
        """Writes a number of the shared state."""
        if name in _TIME_AT:
            self._times[_TIME_AT[name]] = value
        else:
            self._numbers[_NUMBER_AT[name]] = int(value)

    def _add(self, name: str, value: float) -> None:
        self.set(name, self.get(name) + value)

    @property
    def failure(self) -> str:
        """What went wrong, where the status is `FAILED`."""
        return bytes(self._text[: self.get("text_length")]).decode(errors="replace")

    def fail(self, text: str) -> None:
        """Tells all readers that no more samples come, and why."""
        encoded = text.encode(errors="replace")[:_TEXT_BYTES]
        self._text[: len(encoded)] = np.frombuffer(encoded, np.uint8)
        self.set("text_length", len(encoded))
        self.set("status", FAILED)

    def holds(self, batches: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of these batches are there."""
        present: npt.NDArray[np.bool_] = self._table[batches % self._places] == batches
        return present

    def holds_all(self, batches: Iterable[int]) -> bool:
        """Whether all of these batches are there."""
        table, places = self._table_items, self._places
        for batch in batches:  # noqa: SIM110 (a generator costs twice as much)
            if table[batch % places] != batch:
                return False
        return True

    def locate(self, positions: npt.NDArray[np.int64], start: int) -> Rows:
        """Where the samples at `positions` of the window that begins at `start` lie."""
        size = self.window.batch_size
        counted: list[int] | npt.NDArray[np.int64]
        if len(positions) <= FEW:
            places = [position + start for position in positions.tolist()]
            few = [place % self._slots for place in places]
            slots, batches, counted = np.array(few, np.int64), {place // size for place in places}, few
        else:
            line = positions + start
            slots = counted = line % self._slots
            batches = set(np.unique(line // size).tolist())
        return Rows(index_tensor(slots, self.device if self._is_elsewhere else _CPU), batches, counted)

    def empty(self, size: int, names: Iterable[str]) -> Batch:
        """New tensors for fields of `size` samples."""
        return {
            name: torch.empty((size, *self.fields[name].shape), dtype=self.fields[name].dtype, device=self.device)
            for name in names
        }

    def copy(self, rows: Rows, out: Mapping[str, Tensor]) -> None:
        """Copies samples into `out`: some fields, (n, *shape), contiguous.

        Ask `served` or `holds` afterwards whether they were still there.
        """
        for name, values in out.items():
            # Measured on 64 images of 64×64: index_select takes a fifth of the time that data[slots] takes.
            if values.device == self.device:
                torch.index_select(self.data[name], 0, rows.slots, out=values)
            else:
                values.copy_(torch.index_select(self.data[name], 0, rows.slots), non_blocking=True)

    def served(self, rows: Rows) -> bool:
        """Counts samples as served, if all of them are still there; says whether they are."""
        return self.memory.exclusive(lambda: self._count_served(rows))

    def _count_served(self, rows: Rows) -> bool:
        slots = rows.counted
        if not self.holds_all(rows.batches):
            return False
        if isinstance(slots, list):
            for slot in slots:
                self._count_items[slot] += 1
        else:
            np.add.at(self._counts, slots, 1)
        self._add("served", len(slots))
        return True

    def write(self, batch: int, samples: Batch) -> None:
        """Puts a batch into its place; what lay there is gone."""
        place = batch % self._places
        rows = slice(place * self.window.batch_size, (place + 1) * self.window.batch_size)
        self.memory.exclusive(lambda: self._retire(place, rows))
        for name, data in self.data.items():
            data[rows].copy_(samples[name])
        # This stream alone: the training's, on the same device, may have a queue of its own.
        wait_for_stream(self.device)
        self._table[place] = batch

    def _retire(self, place: int, rows: slice) -> None:
        counts = self._counts[rows]
        self._add("retired", int(np.count_nonzero(counts)))
        self.set("retired_reuse_max", max(self.get("retired_reuse_max"), int(counts.max())))
        counts.fill(0)
        self._table[place] = -1

    def count(self, delivery: Delivery) -> None:
        """Enters what a batch took."""
        self._add("generated", delivery.generated)
        self._add("loaded", delivery.loaded)
        self.set("call_size", delivery.call_size or self.window.batch_size)
        self.set("memory_failures", delivery.memory_failures)

    def synchronize(self) -> None:
        """Returns when copies that run on the device, out of it or into it, are done."""
        synchronize(self.device)

    def add_wait(self, since_s: float) -> None:
        """Adds the time since `since_s` to the time that this process waited."""
        name = "wait_s" if os.getpid() == self.get("owner") else "worker_wait_s"
        self.memory.exclusive(lambda: self._add(name, time.monotonic() - since_s))

    def stats(self) -> PoolStats:
        """The numbers so far."""
        state, counts = self.memory.exclusive(
            lambda: ({name: self.get(name) for name in (*_NUMBERS, *_TIMES)}, self._counts.copy())
        )
        turn, generated, loaded, served = (state[name] for name in ("turn", "generated", "loaded", "served"))
        seen = state["retired"] + int(np.count_nonzero(counts))
        fill_s = state["fill_s"]
        start = self.window.start(turn)
        epoch, part = divmod(turn, self.window.parts)
        first, last = self.window.ids_at(np.array([start, start + self.window.capacity - 1]))
        return PoolStats(
            epoch=epoch,
            part=part,
            window=(int(first), int(last) + 1),
            generated=generated,
            loaded=loaded,
            served=served,
            reuse_mean=served / seen if seen else 0.0,
            reuse_max=max(state["retired_reuse_max"], int(counts.max())),
            epochs_per_sample=self.window.lifetime_epochs,
            wait_s=state["wait_s"],
            worker_wait_s=state["worker_wait_s"],
            fill_s=fill_s,
            samples_per_s=(generated + loaded) / fill_s if fill_s else 0.0,
            call_size=state["call_size"],
            memory_failures=state["memory_failures"],
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("window", "fields", "device", "memory")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _is_elsewhere=False)
        self._map()
        self.data = {name: self._shared_field(name, spec) for name, spec in self.fields.items()}


def _layout(window: Window, fields: Mapping[str, FieldSpec], device: torch.device) -> tuple[dict[str, int], int]:
    """Where each part begins, and the size of all."""
    sizes = {
        "numbers": 8 * len(_NUMBERS),
        "times": 8 * len(_TIMES),
        "text": _TEXT_BYTES,
        "table": 8 * window.num_places,
        "counts": 8 * window.num_slots,
    }
    if device.type == "cpu":
        for name, spec in fields.items():
            sizes[f"field {name}"] = window.num_slots * math.prod(spec.shape) * spec.dtype.itemsize
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return offsets, end


def _items(buffer: Any, offset: int, count: int, code: str) -> Any:
    """Numbers of 8 bytes in shared memory, as a memoryview."""
    view: Any = memoryview(buffer)
    return view[offset : offset + 8 * count].cast("B").cast(code)
