"""What a denoiser learns: the v-objective over the cosine schedule, with min-SNR weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NUM_TIMES = 1000
_GAMMA = 5.0


class VelocityObjective:
    """Mean of w(t) |v(x_t, t) - v|², v = sqrt(a_t) e - sqrt(1 - a_t) x, over random times t and noise e.

    Salimans and Ho (2022), "Progressive distillation for fast sampling of diffusion models", appendix D; weighted as in
    Hang et al. (2023), "Efficient diffusion training via min-SNR weighting strategy", equation 8, with gamma = 5, and
    divided by the mean weight over all times, so that losses are comparable between schedules.

    Args:
        alphas: cumulative products a_t of the scheduler that will sample the model, (times,).
    """

    def __init__(self, alphas: Tensor) -> None:
        self.alphas = alphas.float()
        self._mean_weight = float(_weights(self.alphas).mean())

    def loss(self, denoise: Callable[[Tensor, Tensor], Tensor], clean: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            denoise: function of (x_t, int64 times (batch,)) that returns the velocity.
            clean: images or latents (batch, channels, *spatial), of about unit size.
        """
        self.alphas = self.alphas.to(clean.device)
        time = torch.randint(len(self.alphas), (len(clean),), device=clean.device)
        noise = torch.randn_like(clean)
        alpha = self.alphas[time].view(-1, *[1] * (clean.ndim - 1))
        keep, add = alpha.sqrt(), (1 - alpha).sqrt()
        errors = denoise(keep * clean + add * noise, time).float() - (keep * noise - add * clean)
        mean: Tensor = (_weights(self.alphas[time]) * errors.square().flatten(1).mean(1)).mean() / self._mean_weight
        return mean


def _weights(alphas: Tensor) -> Tensor:
    """min(SNR, gamma) / (SNR + 1), for the v-objective; SNR = a / (1 - a)."""
    ratio = alphas / (1 - alphas)
    return ratio.clamp(max=_GAMMA) / (ratio + 1)
