"""How samples are read from a ring, and how a process that does not own the pool waits for them, with a time limit."""

from __future__ import annotations

import os
import time

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.errors import PoolError
from torchgenaug.pool.making.filler import Filler
from torchgenaug.pool.storage.ring import CLOSED, FAILED, SYNCHRONOUS, Ring, Rows
from torchgenaug.pool.texts import CLOSED_TEXT, hung_text, moved_text
from torchgenaug.types import Batch

_SHORTEST_S, _LONGEST_S = 0.001, 0.05


def copy(ring: Ring, filler: Filler | None, turn: int, rows: Rows, out: Batch, timeout_s: float) -> None:
    """Copies samples of `turn` into `out` when they are there; see `Ring.copy`.

    Args:
        ring: holds them.
        filler: makes them; None in a process that can only read.
        turn: which the ring should be at.
        rows: where they lie.
        out: some fields, (n, *shape).
        timeout_s: see `wait_for`.

    Raises:
        PoolError: they cannot be read here, or will not come.
    """
    if filler is None and ring.device.type != "cpu":
        raise PoolError(not_here(ring.device))
    status = ring.get("status")
    if status == CLOSED:
        raise PoolError(CLOSED_TEXT)
    if status == FAILED:
        if filler is not None:
            filler.raise_failure()
        raise PoolError(ring.failure)
    if not ring.holds_all(rows.batches):
        batches = np.array(sorted(rows.batches))
        if filler is not None:
            filler.wait_for(turn, batches)
        else:
            wait_for(ring, turn, batches, timeout_s)
    ring.copy(rows, out)


def wait_for(ring: Ring, turn: int, batches: npt.NDArray[np.int64], timeout_s: float) -> None:
    """Returns when `batches` of `turn` are there.

    Raises:
        PoolError: they will not come: the background failed, hangs, was closed or moved on, or its owner is dead;
            or there is no background, and the owner has not made them.
    """
    since, pause_s = time.monotonic(), _SHORTEST_S
    owner = ring.get("owner")
    is_child = os.getppid() == owner
    try:
        while not ring.holds(batches).all():
            status = ring.get("status")
            if status == CLOSED:
                raise PoolError(CLOSED_TEXT)
            if status == FAILED:
                raise PoolError(ring.failure)
            if ring.get("turn") != turn:
                raise PoolError(moved_text(ring, turn))
            if status == SYNCHRONOUS:
                raise PoolError(
                    f"The samples of {ring.window.name(turn)} are not there, and a pool with background=False makes "
                    "them only in the process that built it. Call its `set_epoch` before the workers start to read."
                )
            if not _is_alive(owner, is_child):
                raise PoolError(f"The process that makes the samples ({owner}) is gone.")
            if time.monotonic() - max(since, ring.get("progress_at_s")) > timeout_s:
                raise PoolError(hung_text(ring, timeout_s))
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_S)
    finally:
        ring.add_wait(since)


def not_here(device: torch.device) -> str:
    """The error of a process that cannot see the samples."""
    return (
        f"A pool on {device} can be read only by the process that built it. "
        "Use device=None, so that DataLoader workers read it from shared memory, or num_workers=0."
    )


def _is_alive(owner: int, is_child: bool) -> bool:
    # A dead parent that nobody has buried yet still answers to its number, but its children have another parent.
    if is_child and os.getppid() != owner:
        return False
    try:
        os.kill(owner, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, of another user
        return True
    return True
