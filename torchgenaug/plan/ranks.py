"""Which of the processes that train together this one is."""

from __future__ import annotations

import os

import torch

from torchgenaug.errors import ConfigurationError


def group_rank() -> tuple[int, int]:
    """(rank, world size) of `torch.distributed`; (0, 1) where it is not initialized."""
    group = torch.distributed
    return (group.get_rank(), group.get_world_size()) if group.is_available() and group.is_initialized() else (0, 1)


def find_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """(rank, world size) as given; else of `torch.distributed`; else RANK and WORLD_SIZE, which torchrun sets.

    Raises:
        ConfigurationError: one without the other, or a rank outside ``range(world_size)``.
    """
    origin = "got"
    if rank is None and world_size is None:
        group = torch.distributed
        if group.is_available() and group.is_initialized():
            return group.get_rank(), group.get_world_size()
        named = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
        if None in named:
            return 0, 1
        origin = "the environment says"
        rank, world_size = (int(text) if text and text.isdecimal() else -1 for text in named)
    numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in (rank, world_size))
    if not numbers or rank is None or world_size is None or not 0 <= rank < world_size:
        raise ConfigurationError(
            f"`rank` and `world_size` must be integers with 0 ≤ rank < world_size, {origin} rank {rank!r} of "
            f"{world_size!r}. Give both, such as rank=0, world_size=1, or neither."
        )
    return rank, world_size
