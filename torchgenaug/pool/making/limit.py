"""A cap on the memory of a process that generates: what `memory_limit` means.

On CUDA it is torch's own cap of what the process may take of the device. On a CPU it is the kernel's limit of the
private memory that a process may write to (RLIMIT_DATA), beyond what Python and torch had taken before the model was
there. Either way a model that needs more gets an error, and is given fewer samples at once: see `MemoryRetry`.
"""

from __future__ import annotations

import operator
from pathlib import Path

import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.pool.storage.memory import available_bytes

_STATUS = Path("/proc/self/status")
_LEAST_BYTES = 1 << 20


def checked_limit(limit: float | None, *, in_process: bool) -> float | None:
    """`limit` as a float in (0, 1], or as a whole number of bytes.

    Raises:
        ConfigurationError: neither; or for a model that has no process of its own.
    """
    if limit is None:
        return None
    if not in_process:
        raise ConfigurationError(
            f"`memory_limit` must be None unless background='process', got {limit!r}. What a thread takes cannot be "
            "separated from what the training takes. Use SyntheticPool(..., background='process', memory_limit=...); "
            "or a lower `batch_size`."
        )
    if isinstance(limit, float) and 0 < limit <= 1:
        return limit
    try:
        number = -1 if isinstance(limit, bool) else operator.index(limit)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < _LEAST_BYTES:
        raise ConfigurationError(
            f"`memory_limit` must be a fraction in (0.0, 1.0], or a number of bytes ≥ {_LEAST_BYTES:,}, got {limit!r}. "
            "For example 0.5, or 4 << 30."
        )
    return number


def private_bytes() -> int:
    """Private memory of this process that may be written to; 0 where the system does not say."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)


def apply_limit(limit: float, device: torch.device, before: int) -> None:
    """Caps the memory of this process, whose model is there already.

    Args:
        limit: see `checked_limit`.
        device: of the model.
        before: `private_bytes` before the model was there.

    Raises:
        ConfigurationError: the model alone takes more, or this kind of device has no cap.
    """
    if device.type == "cuda":
        # "cuda" alone is the current device; torch's cap wants its number.
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        total = torch.cuda.get_device_properties(device).total_memory
        most = int(limit * total) if isinstance(limit, float) else min(int(limit), total)
        _check_room(torch.cuda.memory_allocated(device), most)
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(most / total, device)
        return
    if device.type != "cpu" or not before:
        raise ConfigurationError(
            f"`memory_limit` must be None for a model on {device} on this system, whose memory cannot be capped. Lower "
            "`batch_size` instead."
        )
    import resource

    # A fraction of what is free now, and of what the model has taken of it already.
    taken = private_bytes() - before
    most = int(limit * ((available_bytes() or 0) + taken)) if isinstance(limit, float) else int(limit)
    _check_room(taken, most)
    resource.setrlimit(resource.RLIMIT_DATA, (before + most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _check_room(taken: int, most: int) -> None:
    if taken > most:
        raise ConfigurationError(
            f"`memory_limit` must have room for the model, which takes {taken:,} bytes before it makes anything, got "
            f"{most:,}. Raise it, or use a smaller model or dtype."
        )
