"""Numbers that a data set and its DataLoader workers share."""

from __future__ import annotations

import os

from torch import Tensor

from torchgenaug.errors import ConfigurationError

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (looked at, not written)


def shared(values: Tensor) -> Tensor:
    """Moves a CPU tensor to shared memory, in place, and returns it.

    Raises:
        ConfigurationError: the shared memory of the machine or the container is full.
    """
    try:
        return values.share_memory_()  # type: ignore[no-untyped-call, no-any-return]
    except (RuntimeError, OSError) as error:
        try:
            status = os.statvfs(_SHARED_MEMORY)
            free, total = (status.f_frsize * blocks for blocks in (status.f_bavail, status.f_blocks))
            numbers = f"{free:,} of its {total:,} bytes"
        except OSError:
            numbers = "an unknown part"
        raise ConfigurationError(
            f"Shared memory ({_SHARED_MEMORY}) must have room for {values.nbytes:,} bytes that a data set shares with "
            f"its workers, got {numbers} free: {error}. DataLoader workers send their batches through it, too. Make it "
            "larger (docker run --shm-size=8g, or --ipc=host), or remove files that killed processes have left there."
        ) from error
