"""A diffusion network as a function from a noisy sample to the clean one that it predicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from torchgenaug.contracts import DenoisingModel
from torchgenaug.errors import ConfigurationError


def denoiser_of(
    scheduler: Any, kind: object, predict: Callable[[Tensor, int], Tensor], limits: tuple[float, float]
) -> DenoisingModel:
    """The network as a `DenoisingModel`.

    Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", eq. 15 (noise), and Salimans, Ho (2022),
    "Progressive distillation for fast sampling of diffusion models", section 4 (v).

    Args:
        scheduler: of diffusers or MONAI, with the noise levels of its training.
        kind: what the network predicts, as its scheduler states it.
        predict: function (noisy samples float32, index of the noise level) → output of the network, float32.
        limits: range of clean samples.

    Raises:
        ConfigurationError: a scheduler without such levels, or another kind of prediction.
    """
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(alphas, Tensor) or kind not in ("epsilon", "sample", "v_prediction"):
        raise ConfigurationError(
            f"`model` must predict noise, v or the clean sample over levels alphas_cumprod, got "
            f"{type(scheduler).__name__} with prediction_type={kind!r}. Use a ddpm of `torchgenaug fit`."
        )
    levels = alphas.detach().cpu().float()

    def clean(noisy: Tensor, time: int) -> Tensor:
        output, level = predict(noisy, time), float(levels[time])
        signal, spread = math.sqrt(level), math.sqrt(1 - level)
        if kind == "sample":
            return output
        return (noisy - spread * output) / signal if kind == "epsilon" else signal * noisy - spread * output

    return DenoisingModel(levels, clean, *limits)
