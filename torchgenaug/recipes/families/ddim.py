"""Steps of DDIM for networks that predict v, each sample at a time of its own, and the velocity that one step needs.

x_t = sqrt(a_t) x + sqrt(1 - a_t) e, v = sqrt(a_t) e - sqrt(1 - a_t) x. Time -1 is the clean image: a = 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def trailing_times(steps: int, num_times: int) -> Tensor:
    """The times where `steps` equal steps begin and end, ascending from -1 to num_times - 1: (steps + 1,) int64.

    "Trailing" of Lin et al. (2024), "Common diffusion noise schedules and sample steps are flawed", table 2: the first
    step that is taken begins at pure noise.
    """
    return torch.tensor([round(num_times * k / steps) - 1 for k in range(steps + 1)])


def ddim_step(noisy: Tensor, velocity: Tensor, alphas: Tensor, time: Tensor, end: Tensor) -> Tensor:
    """One step without noise: Song, Meng, Ermon (2021), equation 12 with sigma = 0.

    Args:
        noisy: x_t (batch, channels, *spatial).
        velocity: v there.
        alphas: cumulative products a_t (times,).
        time: (batch,) int64 in [0, times).
        end: (batch,) int64 in [-1, time).
    """
    (keep, add), (keep_end, add_end) = (_factors(alphas, each, noisy.ndim) for each in (time, end))
    clean, noise = keep * noisy - add * velocity, add * noisy + keep * velocity
    return keep_end * clean + add_end * noise


def velocity_towards(noisy: Tensor, goal: Tensor, alphas: Tensor, time: Tensor, end: Tensor) -> Tensor:
    """The velocity with which `ddim_step` ends at `goal`.

    Salimans and Ho (2022), "Progressive distillation for fast sampling of diffusion models", algorithm 2 (the target
    x̃), written as a velocity: with angles p of time and q of end, x_q = cos(p - q) x_p - sin(p - q) v.
    """
    (keep, add), (keep_end, add_end) = (_factors(alphas, each, noisy.ndim) for each in (time, end))
    cosine, sine = keep * keep_end + add * add_end, add * keep_end - keep * add_end
    return (cosine * noisy - goal) / sine


def diffused(clean: Tensor, noise: Tensor, alphas: Tensor, time: Tensor) -> Tensor:
    """x_t of clean images and noise, both (batch, channels, *spatial), at times (batch,)."""
    keep, add = _factors(alphas, time, clean.ndim)
    return keep * clean + add * noise


def _factors(alphas: Tensor, time: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
    """sqrt(a), sqrt(1 - a) as (batch, 1, …)."""
    alpha = torch.where(time < 0, 1.0, alphas[time.clamp(min=0)]).view(-1, *[1] * (ndim - 1))
    return alpha.sqrt(), (1 - alpha).sqrt()
