"""`BatchTransforms`: functions batch → batch, each with random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from torchgenaug import seeding
from torchgenaug.devices import is_on_accelerator, seeded_device
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.samples.random_sources import is_torchio_transform, keeps_to_torch
from torchgenaug.samples.random_state import is_main_thread, seeded

BatchTransform: TypeAlias = Callable[[Any], Any]
Key: TypeAlias = tuple[int, int, int]
"""Epoch, rank and batch number: what the random numbers of a batch depend on, apart from the seed."""


@dataclass(frozen=True)
class BatchTransforms:
    """Functions batch → batch, each called with random generators seeded by (seed, key); None does nothing.

    Args:
        seed: base seed.
        real: for the real rows that are kept.
        synthetic: for the synthetic rows.
        every: for the whole batch, after the others.

    Raises:
        ConfigurationError: not callable, or a TorchIO transform, which takes samples.
    """

    seed: int
    real: BatchTransform | None = None
    synthetic: BatchTransform | None = None
    every: BatchTransform | None = None

    def __post_init__(self) -> None:
        for transform in (self.real, self.synthetic, self.every):
            if transform is not None and not callable(transform):
                raise ConfigurationError(
                    f"A transform must be a function batch -> batch, got {type(transform).__name__}."
                )
            if is_torchio_transform(transform):
                raise ConfigurationError(
                    f"A transform must be a function batch -> batch, got the TorchIO transform "
                    f"{type(transform).__name__}, which takes one sample. Give it to the data set of the loader, or to "
                    "SyntheticMixDataset, which transforms samples."
                )

    @property
    def of_sides(self) -> bool:
        """Whether real or synthetic rows have a transform of their own."""
        return self.real is not None or self.synthetic is not None

    def apply(self, purpose: int, batch: Any, key: Key, device: torch.device) -> Any:
        """The batch after the transform for `purpose`, a stream of `torchgenaug.seeding`."""
        transform = {
            seeding.REAL_TRANSFORM: self.real,
            seeding.SYNTHETIC_TRANSFORM: self.synthetic,
            seeding.TRANSFORM: self.every,
        }[purpose]
        if transform is None:
            return batch
        with _seeded(int(seeding.derive(self.seed, purpose, *key)), device, transform):
            result = transform(batch)
        if not isinstance(result, type(batch)):
            raise FieldMismatchError(
                f"A transform of batches must return a batch like the one that it gets, a {type(batch).__name__}, got "
                f"{type(result).__name__}. Let the function end with `return batch`."
            )
        return result


@contextmanager
def _seeded(seed: int, device: torch.device, transform: BatchTransform) -> Iterator[None]:
    """Random numbers of `seed` for what runs inside; the global generators (of the device, too) stay as they were."""
    if not is_main_thread() and (is_on_accelerator(device) or not keeps_to_torch(transform)):
        raise ConfigurationError(
            "A transform of batches must surely draw from torch on the CPU where it runs in a thread, got "
            f"{transform!r}. The global generators are the training loop's at the same time. Iterate over the mix in "
            "the main thread."
        )
    with seeded_device(device, seed), seeded(torch_only=False) as reseed:
        reseed(seed)
        yield
