"""How to train: what is the same for every family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FitOptions:
    """How to train; everything here but `seed`, `precision` and `augment` may change from one resume to the next.

    Attributes:
        seed: of the weights, the order of the samples, the noise.
        precision: ``"no"`` (float32), ``"bf16"`` or ``"fp16"``: automatic mixed precision, by accelerate.
        accumulate: batches whose gradients are averaged before a step.
        augment: mild random affine transforms of the training images (`mild_affine`).
        ema_decay: of the exponential moving average of the weights that are sampled.
        max_grad_norm: gradients are scaled down to this norm.
        reports: how many times to draw samples and judge them, evenly over the run.
        patience: stop after this many reports without a smaller distance to held-out images, and keep the best model.
        max_minutes: stop after this time; the same command goes on.
        workers: processes that prepare batches.
    """

    seed: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    accumulate: int = 1
    augment: bool = True
    ema_decay: float = 0.999
    max_grad_norm: float = 1.0
    reports: int = 10
    patience: int | None = None
    max_minutes: float | None = None
    workers: int = 0
