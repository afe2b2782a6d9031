"""Puts a pool together: who makes the samples, the ring that takes them, and the filler between the two."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.pool.fit import build_ring
from torchgenaug.pool.making.filler import Filler
from torchgenaug.pool.making.limit import checked_limit
from torchgenaug.pool.making.process import ProcessSupply
from torchgenaug.pool.making.supply import LocalSupply, Supply, open_render
from torchgenaug.pool.storage.ring import Ring
from torchgenaug.pool.storage.window import Window
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import FieldSpec


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pool is made of, and what it says about its sequence."""

    fields: Mapping[str, FieldSpec]
    fingerprint: str
    seed: int
    trained_on: Mapping[str, Any] | None
    ring: Ring
    filler: Filler


def assemble(
    sequence: SyntheticSequence | Callable[[], SyntheticSequence],
    window: Window,
    *,
    background: bool | Literal["process"],
    device: torch.device | str | None,
    timeout_s: float,
    shards: SyntheticSource | str | os.PathLike[str] | None,
    offload: bool,
    memory_limit: float | None,
) -> Parts:
    """The parts of a pool whose filler is at work; arguments and errors as for `SyntheticPool`."""
    in_process = background == "process"
    memory_limit = checked_limit(memory_limit, in_process=in_process)
    maker: SyntheticSequence | ProcessSupply
    if in_process and callable(sequence):
        maker = ProcessSupply(sequence, timeout_s, offload=offload, memory_limit=memory_limit)
    elif not isinstance(sequence, SyntheticSequence):
        raise ConfigurationError(
            f"`sequence` must be a SyntheticSequence, got {type(sequence).__name__}. "
            "Wrap a synthesizer: SyntheticPool(SyntheticSequence(synthesizer), capacity)."
        )
    elif not isinstance(background, bool) and not in_process:
        raise ConfigurationError(f"`background` must be True (a thread), 'process' or False, got {background!r}.")
    elif in_process:
        maker = ProcessSupply(sequence, timeout_s, offload=offload, memory_limit=memory_limit)
    else:
        maker = sequence
    try:
        fields = dict(maker.fields)
        render = None if shards is None else open_render(shards, maker.fingerprint, fields)
        ring = build_ring(window, fields, torch.device(device or "cpu"))
        supply: Supply
        if isinstance(maker, ProcessSupply):
            maker.prepare(window.batch_size, render)
            supply = maker
        else:
            supply = LocalSupply(maker, render, offload=offload)
        filler = Filler(supply, ring, window, seed=maker.seed, timeout_s=timeout_s, background=bool(background))
    except BaseException:
        if isinstance(maker, ProcessSupply):
            maker.close()
        raise
    return Parts(fields, maker.fingerprint, maker.seed, maker.trained_on, ring, filler)
