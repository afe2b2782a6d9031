"""Noise levels in continuous time, x_t = alpha x + sigma e, and the step between two of them.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021), "Score-based generative modeling through stochastic
differential equations": variance preserving (VP, equation 32) and variance exploding (VE, appendix C). The step is that
of Kingma, Salimans, Poole, Ho (2021), "Variational diffusion models", equations 25 to 32: it holds for any two times,
so that a model trained in continuous time takes as many steps as one likes (FastDPM, Kong and Ping, 2021).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Equation: TypeAlias = Literal["vp", "ve"]
Level: TypeAlias = tuple[Tensor, Tensor]
"""alpha and sigma, of a shape that broadcasts against images."""

_BETA_MIN, _BETA_MAX = 0.1, 20.0
SIGMA_MIN = 0.01


def level(time: Tensor, equation: Equation, sigma_max: float, ndim: int) -> Level:
    """(alpha, sigma) at times (batch,) in [0, 1], as (batch, 1, …) of `ndim` axes.

    Args:
        time: 0: the image; 1: noise.
        equation: ``"vp"`` or ``"ve"``.
        sigma_max: of VE: the noise at time 1, about the largest distance between two images (Song and Ermon, 2020,
            "Improved techniques for training score-based generative models", technique 1).
        ndim: axes of a batch of images.
    """
    time = time.view(-1, *[1] * (ndim - 1))
    if equation == "ve":
        return torch.ones_like(time), SIGMA_MIN * (sigma_max / SIGMA_MIN) ** time
    alpha = torch.exp(-0.25 * time**2 * (_BETA_MAX - _BETA_MIN) - 0.5 * time * _BETA_MIN)
    return alpha, (1 - alpha**2).clamp(min=1e-12).sqrt()


def posterior_step(noisy: Tensor, clean: Tensor, here: Level, there: Level, noise: Tensor) -> Tensor:
    """A draw of q(x_s | x_t, x) for s < t.

    Args:
        noisy: x_t (batch, channels, *spatial).
        clean: the image x, or what a network takes for it.
        here: level of t.
        there: level of s.
        noise: standard normal, like `noisy`.
    """
    (alpha, sigma), (alpha_there, sigma_there) = here, there
    ratio = alpha / alpha_there
    added = (sigma**2 - ratio**2 * sigma_there**2).clamp(min=0)
    mean = ratio * sigma_there**2 / sigma**2 * noisy + alpha_there * added / sigma**2 * clean
    return mean + (added.sqrt() * sigma_there / sigma) * noise
