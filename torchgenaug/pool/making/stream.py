"""A CUDA stream for a pool's thread: on the default one its kernels would queue behind the training's."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def current_cuda_device() -> int | None:
    """The device that this thread uses; None where CUDA was not used so far."""
    initialized = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.current_device() if initialized else None


def own_stream(device: int | None) -> contextlib.AbstractContextManager[Any]:
    """A stream of its own on `device` for the calling thread; without a device, nothing."""
    if device is None:
        return contextlib.nullcontext()
    torch.cuda.set_device(device)  # a new thread starts on device 0
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    # What the caller queued, such as the weights on their way to the device, comes first.
    stream.wait_stream(torch.cuda.default_stream())
    return torch.cuda.stream(stream)
