"""`Settings`: where the steps compute and how much they do, and the clock that they share."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Record = Callable[[str, Any], None]
"""Keeps a result, JSON-ready, under a name: at once, so that nothing is lost when the step is ended."""


@dataclass(frozen=True)
class Settings:
    """What every step is given.

    Attributes:
        device: where to compute.
        tiny: whether to do as little as possible, to test the step itself.
    """

    device: torch.device
    tiny: bool

    @property
    def is_cuda(self) -> bool:
        """Whether CUDA graphs, streams and memory statistics exist."""
        return self.device.type == "cuda"

    @property
    def half(self) -> torch.dtype:
        """Half precision that the device is good at."""
        return torch.float16 if self.is_cuda else torch.bfloat16

    def pick(self, full: T, tiny: T) -> T:
        """`full`, or `tiny` in the small version."""
        return tiny if self.tiny else full

    def synchronize(self) -> None:
        """Waits until the device has done everything."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def seconds(self, call: Callable[[], Any]) -> float:
        """Time of `call`, until the device is done."""
        self.synchronize()
        began = time.perf_counter()
        call()
        self.synchronize()
        return time.perf_counter() - began

    def finished(self, call: Callable[[], Any]) -> Callable[[], None]:
        """`call`, returning when the device is done."""

        def run() -> None:
            call()
            self.synchronize()

        return run

    def forget_peak(self) -> None:
        """Starts a new count of the largest memory."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_mib(self) -> float | None:
        """Most memory that tensors took since `forget_peak`; None on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) / 2**20 if self.is_cuda else None

    def allocated_mib(self) -> float | None:
        """Memory that tensors take now; None on a CPU."""
        return torch.cuda.memory_allocated(self.device) / 2**20 if self.is_cuda else None
