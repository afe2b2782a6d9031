"""`LightningTraining`: a study's `train` function from a `LightningModule`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader

from torchgenaug import seeding
from torchgenaug.errors import MissingExtraError


@dataclass(frozen=True)
class LightningTraining:
    """Trains a fresh `LightningModule` for exactly so many optimizer steps: the `train` of a `Study`.

    The module's own optimizer, loss and ``batch`` layout count; its learning-rate schedule should belong to steps.

    Attributes:
        build: → module. Weights are drawn from the study's seed.
        batch_size: samples per step.
        trainer: further arguments of `lightning.Trainer`, such as ``{"accelerator": "gpu"}``.
    """

    build: Callable[[], Any]
    batch_size: int = 32
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, dataset: Any, seed: int, steps: int) -> Any:
        """The trained module, in evaluation mode."""
        try:
            from lightning import Trainer
        except ImportError as error:
            raise MissingExtraError(
                "Lightning must be installed for `LightningTraining`, got none. Install it: pip install lightning"
            ) from error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.build()
        shuffle = torch.Generator().manual_seed(int(seeding.derive(seed, 0)) >> 1)
        loader: DataLoader[Any] = DataLoader(dataset, self.batch_size, shuffle=True, generator=shuffle)
        quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        quiet |= {"enable_model_summary": False, "accelerator": "cpu", "devices": 1}
        epochs = math.ceil(steps / len(loader))
        Trainer(**{**quiet, **self.trainer, "max_steps": steps, "max_epochs": epochs}).fit(module, loader)
        return module.eval()

    @property
    def settings(self) -> str:
        """What a folder of results remembers."""
        return f"LightningTraining({getattr(self.build, '__qualname__', 'module')}, batch_size={self.batch_size})"
