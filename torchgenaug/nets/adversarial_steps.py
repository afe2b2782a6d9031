"""`AdversarialDenoiser`: an image in two to eight large denoising steps, each by a conditional generator.

Xiao, Kreis, Vahdat (2022), "Tackling the generative learning trilemma with denoising diffusion GANs", sections 3 and 4:
what is left of an image after a large step has many explanations, so a latent vector chooses one; the next noisy image
is a draw of the posterior of that one. The latent is given as constant channels, where the paper scales features by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.nets.conditioned_unet import ConditionedUNet
from torchgenaug.nets.intensities import to_intensities
from torchgenaug.nets.noise_levels import Level, level, posterior_step


class AdversarialDenoiser(nn.Module):
    """Standard normal latents (batch, length) (and a condition) → images.

    Args:
        shape: (channels, *spatial) of an image, 2D or 3D.
        unet: arguments of `ConditionedUNet`'s network, with `latent_dim` more input channels.
        latent_dim: length of the latent vector of a step.
        steps: how many steps.
        value_range: the images' intensities.
        source_range: those of a source image, see `ConditionedUNet`.

    Attributes:
        latent_shape: (length,): for each step noise like an image, and a latent vector.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        unet: Mapping[str, Any],
        latent_dim: int = 8,
        steps: int = 4,
        value_range: Sequence[float] = (-1.0, 1.0),
        source_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        self.network = ConditionedUNet(unet, source_range)
        self.shape, self.latent_dim, self.steps = tuple(shape), latent_dim, steps
        self.low, self.high = value_range
        self.latent_shape = (steps * (math.prod(shape) + latent_dim),)

    def level(self, step: Tensor, ndim: int) -> Level:
        """(alpha, sigma) after `step` of `steps` steps towards noise, (batch,) int64: the VP equation at step / steps.

        The same as the paper's beta_t (appendix, equation 14) up to the last digits.
        """
        return level(step / self.steps, "vp", 1.0, ndim)

    def clean(self, noisy: Tensor, step: Tensor, latent: Tensor, condition: Tensor | None) -> Tensor:
        """The image in [-1, 1] that noisy images at `step` may come from, as `latent` (batch, latent_dim) chooses."""
        maps = latent.view(*latent.shape, *[1] * (noisy.ndim - 2))
        made: Tensor = self.network(noisy, step / self.steps, condition, [maps]).tanh()
        return made

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (batch, *shape) in `value_range`."""
        noise, chosen = torch.split(latents, [self.steps * math.prod(self.shape), self.steps * self.latent_dim], 1)
        draws = noise.reshape(-1, self.steps, *self.shape).unbind(1)
        noisy = draws[0]
        for number in range(self.steps, 0, -1):
            step = torch.full((len(latents),), number, device=latents.device)
            latent = chosen.reshape(-1, self.steps, self.latent_dim)[:, self.steps - number]
            clean = self.clean(noisy, step, latent, condition)
            if number == 1:
                break
            levels = self.level(step, noisy.ndim), self.level(step - 1, noisy.ndim)
            noisy = posterior_step(noisy, clean, *levels, draws[self.steps - number + 1]).to(latents.dtype)
        return to_intensities(clean, self.low, self.high)
