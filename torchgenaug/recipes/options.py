"""How to train: what is the same for every family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torchgenaug.recipes.settings import Value

Condition: TypeAlias = Literal["label", "mask", "source"]


@dataclass(frozen=True)
class Options:
    """What a user may set about a recipe. None: the family's own default, which is made for small data.

    Attributes:
        condition: conditioning field: ``"label"``, ``"mask"`` or ``"source"``; None: unconditional.
        with_mask: generate the mask together with the image (families that say so).
        steps: training steps in all; the learning rate may depend on it.
        batch_size: samples per step and process.
        width: channels of the widest-resolution layers: model size and time grow with its square.
        latent_dim: length of latent vectors, or channels of latent images.
        learning_rate: of the (first) optimizer.
        sampling_steps: denoising steps of a diffusion model when it is sampled.
        guidance_scale: classifier-free guidance when it is sampled; see `DiffusersSynthesizer`.
        teacher: folder of a trained model (families that are distilled from one). Its condition, and whether it
            generates masks, is then what `condition` and `with_mask` are unless they are given.
        start: folder of a trained model of the same family whose weights training begins with; what decides its
            networks (`condition`, `with_mask`, `width`, `latent_dim`, `settings`) is its own unless given. For
            ``lora`` the folder of a pretrained pipeline of diffusers.
        settings: of this family alone, by name; `describe_family` has them with their defaults.
    """

    condition: Condition | None = None
    with_mask: bool = False
    steps: int | None = None
    batch_size: int | None = None
    width: int | None = None
    latent_dim: int | None = None
    learning_rate: float | None = None
    sampling_steps: int | None = None
    guidance_scale: float | None = None
    teacher: str | None = None
    start: str | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class FitOptions:
    """How to train. `reports`, `patience`, `max_minutes` and `workers` may change from one resume to the next.

    Attributes:
        seed: of the weights, the order of the samples, the noise.
        precision: ``"no"`` (float32), ``"bf16"`` or ``"fp16"``: automatic mixed precision, by accelerate.
        accumulate: batches whose gradients are averaged before a step.
        augment: mild random affine transforms of the training images (`mild_affine`).
        balance: show every class equally often; samples of smaller classes are repeated.
        ema_decay: of the exponential moving average of the weights that are sampled.
        max_grad_norm: gradients are scaled down to this norm.
        reports: how many times to draw samples and judge them, evenly over the run.
        patience: stop after this many reports without a smaller distance to held-out images, and keep the best model.
        max_minutes: end within this time with a usable model. Steps that the user gave are cut off, and the same call
            goes on; the family's own number of steps, and with it the whole schedule, is shortened to what fits.
        workers: processes that prepare batches.
    """

    seed: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    accumulate: int = 1
    augment: bool = True
    balance: bool = False
    ema_decay: float = 0.999
    max_grad_norm: float = 1.0
    reports: int = 10
    patience: int | None = None
    max_minutes: float | None = None
    workers: int = 0
