"""`Supply`: where the samples of a batch come from. From a render that holds them, or else from the model."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, PoolError
from torchgenaug.pool.making.weights import weights_of
from torchgenaug.sequence.memory_retry import MemoryRetry
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import Batch, FieldSpec


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch, and what it took.

    Attributes:
        samples: the batch.
        generated: samples that the model made for it.
        loaded: samples of it that came from disk.
        call_size: how many samples the model is given at once now; None: a whole batch.
        memory_failures: how often memory ran out so far.
    """

    samples: Batch
    generated: int
    loaded: int
    call_size: int | None
    memory_failures: int


class Supply(Protocol):
    """Delivers batches to the one thread that asks.

    Attributes:
        elsewhere: whether the model is in another process, so that this one may fork while it works.
        rests: whether `rest` does anything.
        captures_graphs: whether the model captures CUDA graphs in this process.
    """

    elsewhere: bool
    rests: bool
    captures_graphs: bool

    def batch(self, ids: npt.NDArray[np.int64]) -> Delivery:
        """Samples `ids`, and where they come from."""
        ...

    def rest(self) -> None:
        """Called when nothing is needed for the time being: the weights may go to host memory until the next batch."""
        ...

    def close(self) -> None:
        """Ends what it started; a batch that is being made somewhere else is given up. May be called by any thread."""
        ...


class LocalSupply:
    """Makes samples in the calling thread, or reads them from a render of the same sequence.

    A sample that the render holds is read, so it has the render's bits. A batch that the render holds in part is made
    as a whole, so that the other samples have the bits that they have without a render.

    Args:
        sequence: makes the samples.
        shards: a render of it, checked by `open_render`; or None.
        offload: whether the weights of the model go to host memory in `rest`.

    Raises:
        ConfigurationError: weights that cannot be found are to be moved.
    """

    elsewhere = False

    def __init__(
        self, sequence: SyntheticSequence, shards: SyntheticSource | None = None, *, offload: bool = False
    ) -> None:
        self._retry, self._shards = MemoryRetry(sequence), shards
        self._weights = weights_of(sequence.synthesizer) if offload else None
        self._took, self.rests = False, offload
        self._closed, self._lock = False, threading.Lock()  # `close` comes from another thread
        execution = getattr(sequence.synthesizer, "execution", None)
        self.captures_graphs = bool(getattr(execution, "cuda_graph", False))

    def batch(self, ids: npt.NDArray[np.int64]) -> Delivery:
        """See `Supply.batch`."""
        held = ids[ids < len(self._shards)] if self._shards is not None else ids[:0]
        stored = self._shards.read(held) if self._shards is not None and len(held) else {}
        if len(held) == len(ids):
            return self._delivery(stored, 0, len(held))
        self._take()
        samples = self._retry.batch(ids)
        if stored:
            rows = torch.from_numpy(np.flatnonzero(np.isin(ids, held)))
            samples = {name: value.clone() for name, value in samples.items()}
            for name, value in samples.items():
                value[rows.to(value.device)] = stored[name].to(value.device)
        return self._delivery(samples, len(ids), len(held))

    def rest(self) -> None:
        """See `Supply.rest`."""
        with self._lock:
            if self._weights is not None and not self._closed:
                if not self._took:  # nothing was made yet: they lie where they were loaded
                    self._weights.take()
                self._took = False
                self._weights.let_go()

    def close(self) -> None:
        """Brings the weights back, and does not count as their user any more."""
        with self._lock:
            if self._weights is not None and not self._closed:
                self._weights.restore(taken=self._took)
            self._closed, self._took = True, False

    def _take(self) -> None:
        with self._lock:
            if self._weights is None or self._took:
                return
            if self._closed:
                raise PoolError("The pool was closed while it was about to make a batch.")
            self._weights.take()
            self._took = True

    def _delivery(self, samples: Batch, generated: int, loaded: int) -> Delivery:
        return Delivery(samples, generated, loaded, self._retry.call_size, self._retry.failures)


def open_render(
    shards: SyntheticSource | str | os.PathLike[str], fingerprint: str, fields: Mapping[str, FieldSpec]
) -> SyntheticSource:
    """The render, if its samples are those of the sequence.

    Args:
        shards: a folder, or a source.
        fingerprint: of the sequence.
        fields: of the sequence.

    Raises:
        ConfigurationError: neither; a render of another sequence; or one that is stored inexactly.
        ShardError: the folder cannot be read.
    """
    from torchgenaug.shards import ShardSource

    if isinstance(shards, str | os.PathLike):
        shards = ShardSource(shards)
    if not isinstance(shards, ShardSource):
        raise ConfigurationError(
            f"`shards` must be a ShardSource or the path of a shard folder, got {type(shards).__name__}."
        )
    if shards.fingerprint != fingerprint or dict(shards.fields) != dict(fields):
        raise ConfigurationError(
            f"`shards` must be a render of the pool's own sequence, fingerprint {fingerprint}, got "
            f"{str(shards.path)!r} of the sequence {shards.fingerprint}. Their samples differ: another model, other "
            "conditions, screens, seed. Render this, render_shards(sequence, 'shards', 1000), or leave `shards` out."
        )
    errors = {name: field.max_error for name, field in shards.manifest.fields.items() if field.max_error}
    if errors:
        raise ConfigurationError(
            f"`shards` must be stored exactly, got {str(shards.path)!r} with errors of up to {errors}. An epoch would "
            "mix exact samples with rounded ones. Render with dtype=None, or use ShardSource itself instead of a pool."
        )
    shards.read(np.zeros(1, np.int64))  # fails here rather than in the background, and loads h5py (see `forks`)
    return shards
