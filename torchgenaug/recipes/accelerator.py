"""`open_accelerator`: where a training run computes, and with which precision."""

from __future__ import annotations

import atexit
import contextlib
import gc
import random
from collections.abc import Iterator
from typing import Any

import torch

from torchgenaug import devices
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.options import FitOptions


@contextlib.contextmanager
def open_accelerator(device: str | None, options: FitOptions) -> Iterator[Any]:
    """The `accelerate.Accelerator` of a run.

    accelerate keeps device and precision for the whole process; what this run set is taken back at its end, so that the
    next one may use others. A device that accelerate chose without an `Accelerator` (its logger does so) is put aside
    meanwhile. Of several processes the run opens their group, which stays for the next run and is closed when the
    process ends.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …; None: a GPU where there is one.
        options: of the loop; `precision` counts.

    Raises:
        ConfigurationError: a device that is not there, or a device or precision that an `Accelerator` of the calling
            program excludes.
    """
    # rich, which accelerate imports, draws a number from Python's global generator when it is first imported.
    drawn = random.getstate()
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    random.setstate(drawn)
    wanted = checked_device(device)
    if options.precision not in ("no", "bf16", "fp16"):
        raise ConfigurationError(f"`precision` must be 'no', 'bf16' or 'fp16', got {options.precision!r}.")
    grouped = torch.distributed.is_available() and torch.distributed.is_initialized()
    chosen = dict(PartialState._shared_state)
    ours = not AcceleratorState._shared_state and not (chosen and grouped)
    if ours:
        PartialState._reset_state()
    if wanted is not None and wanted.index is not None:
        torch.accelerator.set_device_index(wanted.index)
    # Without a GPU accelerate takes the processes of a launcher for one group only if it is given the CPU.
    on_cpu = wanted.type == "cpu" if wanted is not None else not torch.accelerator.is_available()
    try:
        accelerator = Accelerator(cpu=on_cpu, mixed_precision=options.precision)
    except ValueError as error:
        _check_same_device(AcceleratorState().device, wanted)
        raise ConfigurationError(
            f"`precision` must be the one of the `accelerate.Accelerator` that this program already has, got "
            f"{options.precision!r}: accelerate keeps one for the whole process ({error}). Use the same precision, or "
            "train in a process of its own."
        ) from error
    if not grouped and accelerator.num_processes > 1:
        atexit.register(_close_group)
    try:
        _check_same_device(accelerator.device, wanted)
        yield accelerator
    except BaseException:
        atexit.unregister(_close_group)  # the other processes may be gone or busy: closing could wait for them
        raise
    finally:
        if ours and accelerator.num_processes == 1:
            AcceleratorState._reset_state(reset_partial_state=True)
            PartialState._shared_state.update(chosen)


def _check_same_device(held: torch.device, wanted: torch.device | None) -> None:
    """Raises `ConfigurationError` for a kind of device other than the one that accelerate holds."""
    if wanted is not None and held.type != wanted.type:
        raise ConfigurationError(
            f"`device` must be the one of the `accelerate.Accelerator` that this program already has ({held.type}), "
            f"got {str(wanted)!r}: accelerate keeps one for the whole process. Leave `device` out, or train in a "
            "process of its own."
        )


def _close_group() -> None:
    """Ends the group of processes before the interpreter goes.

    gloo aborts the process if models in reference cycles outlive the group, so they are collected first; a group that
    nobody closes is reported as a leak by NCCL.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def checked_device(device: str | None) -> torch.device | None:
    """The device that a user named; None for None.

    Raises:
        ConfigurationError: neither a CPU nor a GPU that torch finds.
    """
    if device is None:
        return None
    known = devices.device_names()
    if str(device) not in known:
        raise ConfigurationError(
            f"`device` must be one of {', '.join(known)}, got {str(device)!r}. "
            f"{'' if len(known) > 1 else 'torch finds no GPU here. '}Leave it out for a GPU where there is one."
        )
    return torch.device(device)
