"""What a mix learns from the calls that lead to it: which loader reads, and which begins or restores a pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import get_worker_info

ACCELERATE = "accelerate.data_loader"
_FETCH = ("torch.utils.data._utils.fetch", "fetch")
_RESTORE_DEPTH = 8  # calls between torchdata's loader and the state of a mix
_FETCH_DEPTH = 24  # calls between a DataLoader and a mix: subsets, concatenations, caches
_STATE_KEYS = frozenset({"epoch", "num_real", "ratio"})  # of the state of a mix


def accelerate_pass() -> bool | None:
    """Whether a pass that accelerate's loader, the caller's caller, begins was begun before; None where it begins none.

    accelerate takes the state of torchdata's loader when it is built, which begins the first pass: workers fetch ahead,
    also where a state is loaded then, with which the pass begins anew.
    """
    frame = sys._getframe(2)
    outer = frame.f_back
    if frame.f_globals.get("__name__") != ACCELERATE or outer is None:
        return None
    if (outer.f_globals.get("__name__"), outer.f_code.co_name) != (ACCELERATE, "__iter__"):
        return None
    loader = getattr(frame.f_locals.get("self"), "base_dataloader", None)
    goes_on = _is_in_pass(getattr(loader, "next_iter_state", None))
    return goes_on or bool(getattr(loader, "_initial_iter_for_state_dict", False))


def restored_pass() -> bool | None:
    """Whether torchdata's loader, which restores the caller's caller in this process, had ended its pass; else None."""
    frame: Any = sys._getframe(2)
    for _ in range(_RESTORE_DEPTH):
        if frame is None or get_worker_info() is not None:
            return None
        if str(frame.f_globals.get("__name__")).startswith("torchdata."):
            state = frame.f_locals.get("state_dict")
            if isinstance(state, dict) and "_iterator_finished" in state:
                return bool(state["_iterator_finished"])
        frame = frame.f_back
    return None


def resumed_state(frame: Any) -> Mapping[str, Any] | None:
    """The state that torchdata's loader with workers goes on from, where it asks a sampler, which asks at `frame`."""
    for _ in range(_FETCH_DEPTH):
        if frame is None:
            return None
        state: Any = frame.f_locals.get("next_iter_state") if frame.f_code.co_name == "__init__" else None
        if _is_of_workers(state) and str(frame.f_globals.get("__name__")).startswith("torchdata."):
            return dict(state)
        frame = frame.f_back
    return None


def saved_epoch(state: Mapping[str, Any], *, otherwise: int) -> int:
    """The epoch of the mix in the state of torchdata's loader with workers.

    A worker that had read nothing of a pass may have been in the epoch before.

    Args:
        state: of the loader.
        otherwise: the epoch to return where no worker's data set has the state of a mix in its own.
    """
    workers = state["_snapshot"].get("_worker_snapshots", {}).values()
    return max((found for worker in workers for found in _epochs(worker.get("dataset_state"))), default=otherwise)


def _epochs(state: Any) -> Iterator[int]:
    if isinstance(state, Mapping):
        if state.keys() >= _STATE_KEYS:
            yield int(state["epoch"])
        else:
            for inner in state.values():
                yield from _epochs(inner)


def _is_of_workers(state: Any) -> bool:
    return isinstance(state, Mapping) and "_snapshot" in state


def _is_in_pass(state: Any) -> bool:
    """Whether a state is one of torchdata's loader with workers, saved in the middle of a pass."""
    return _is_of_workers(state) and not state.get("_iterator_finished")


def find_fetcher() -> Any:
    """What reads batches for the `DataLoader` that is reading now, or None."""
    frame = sys._getframe(3)
    for _ in range(_FETCH_DEPTH):
        if frame is None:
            return None
        if frame.f_code.co_name == _FETCH[1] and frame.f_globals.get("__name__") == _FETCH[0]:
            return frame.f_locals.get("self")
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None
