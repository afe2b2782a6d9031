"""`Staging`: shared memory through which one process passes a generated batch to another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from torchgenaug.pool.storage.memory import SharedMemory
from torchgenaug.types import Batch, FieldSpec


class Staging:
    """Shared memory for one batch; picklable, as `SharedMemory` is.

    Args:
        fields: what every sample holds.
        batch_size: samples.

    Raises:
        OSError: there is no room.
    """

    def __init__(self, fields: Mapping[str, FieldSpec], batch_size: int) -> None:
        self._fields, self._batch_size = dict(fields), batch_size
        self._memory = SharedMemory(max(1, sum(self._field_bytes(spec) for spec in self._fields.values())))
        self._map()

    @property
    def samples(self) -> Batch:
        """The batch that lies there: field → (batch_size, *spec.shape), on the CPU, without a copy."""
        return dict(self._data)

    def put(self, samples: Batch) -> None:
        """Copies `samples` into the staged batch."""
        for name, data in self._data.items():
            data.copy_(samples[name])

    def _field_bytes(self, spec: FieldSpec) -> int:
        return -(-self._batch_size * math.prod(spec.shape) * spec.dtype.itemsize // 64) * 64

    def _map(self) -> None:
        self._data, offset = {}, 0
        for name, spec in self._fields.items():
            count = self._batch_size * math.prod(spec.shape)
            flat = torch.frombuffer(self._memory.buffer, dtype=spec.dtype, count=count, offset=offset)
            self._data[name] = flat.reshape(self._batch_size, *spec.shape)
            offset += self._field_bytes(spec)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_fields", "_batch_size", "_memory")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()
