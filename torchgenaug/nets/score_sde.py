"""`ScoreSampler`: a score model in continuous time, sampled by a predictor and a corrector.

Song et al. (2021), "Score-based generative modeling through stochastic differential equations": algorithms 2 and 3 with
Langevin correction (algorithms 4 and 5). Two differences: the corrector's step is each sample's own, not the mean of a
batch, in which samples would depend on each other; and the predictor is the exact posterior of `posterior_step` (their
appendix F), which few steps need. diffusers' schedulers of both equations draw from one generator for a batch, and
correct by means over it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from torchgenaug.nets.conditioned_unet import ConditionedUNet
from torchgenaug.nets.intensities import to_intensities
from torchgenaug.nets.noise_levels import Equation, Level, level, posterior_step

LAST_TIME: Mapping[str, float] = {"vp": 1e-3, "ve": 1e-5}
"""Where sampling ends, and training begins: below it the score is not learnt."""


class ScoreSampler(nn.Module):
    """Standard normal latents (batch, 1 + draws, channels, *spatial) (and a condition) → images.

    Args:
        shape: (channels, *spatial) of an image, 2D or 3D.
        unet: arguments of `ConditionedUNet`'s network.
        equation: ``"vp"`` or ``"ve"``.
        sigma_max: of VE, see `level`.
        steps: of the predictor.
        corrector: take a step of Langevin dynamics after each.
        signal_to_noise: its r (Song et al., 2021, table 1: 0.16).
        prediction: of the network: ``"noise"``, e, or ``"velocity"``, a e - b x where x_t over its size is a x + b e
            (Salimans and Ho, 2022, appendix D). Where there is hardly more than noise, a small error of e is a large
            one of the image, but not one of the velocity.
        value_range: the images' intensities.
        source_range: those of a source image, see `ConditionedUNet`.

    Attributes:
        latent_shape: shape of one latent: the noise at time 1, and all that the steps draw.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        unet: Mapping[str, Any],
        equation: Equation = "vp",
        sigma_max: float = 50.0,
        steps: int = 50,
        corrector: bool = True,
        signal_to_noise: float = 0.16,
        prediction: Literal["noise", "velocity"] = "noise",
        value_range: Sequence[float] = (-1.0, 1.0),
        source_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        self.network = ConditionedUNet(unet, source_range)
        self.equation, self.sigma_max, self.steps = equation, sigma_max, steps
        self.corrector, self.signal_to_noise, self.prediction = corrector, signal_to_noise, prediction
        self.low, self.high = value_range
        self.latent_shape = (1 + steps * (2 if corrector else 1), *shape)

    def level(self, time: Tensor, ndim: int) -> Level:
        """(alpha, sigma) at times (batch,)."""
        return level(time, self.equation, self.sigma_max, ndim)

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the network learns to predict, of images and their noise (batch, channels, *spatial)."""
        if self.prediction == "noise":
            return noise
        part, rest, _ = self._parts(time, clean.ndim)
        return part * noise - rest * clean

    def predicted(self, noisy: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """`target` as the network sees it in x_t (batch, channels, *spatial) at times (batch,)."""
        # Of about unit size whatever the noise (Karras et al., 2022, "Elucidating the design space", section 5).
        made: Tensor = self.network(noisy / self._parts(time, noisy.ndim)[2], time, condition)
        return made

    def noise_in(self, noisy: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """The noise e in x_t (batch, channels, *spatial) at times (batch,): score = -e / sigma."""
        made = self.predicted(noisy, time, condition)
        if self.prediction == "noise":
            return made
        part, rest, size = self._parts(time, noisy.ndim)
        return rest * noisy / size + part * made

    def _parts(self, time: Tensor, ndim: int) -> tuple[Tensor, Tensor, Tensor]:
        """The shares a and b of image and noise in x_t over its size, and that size."""
        alpha, sigma = self.level(time, ndim)
        size = (alpha**2 + sigma**2).sqrt()
        return alpha / size, sigma / size, size

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (batch, *shape) in `value_range`."""
        draws = iter(latents.unbind(1))
        # Evenly in the root of the time for VP, whose noise vanishes fast at the end: with the true score of Gaussian
        # images of deviation 0.2, 50 steps end at 0.199, and at 0.175 where they are even in time.
        power = 2 if self.equation == "vp" else 1
        first = LAST_TIME[self.equation] ** (1 / power)
        times = torch.linspace(1, first, self.steps + 1, device=latents.device) ** power
        steps = [time.expand(len(latents)) for time in times.to(latents.dtype)]
        noisy = next(draws) * self.level(steps[0], latents.ndim - 1)[1]
        for here, there in itertools.pairwise(steps):
            levels = self.level(here, noisy.ndim), self.level(there, noisy.ndim)
            noisy = posterior_step(noisy, self._clean(noisy, here, condition), *levels, next(draws))
            if self.corrector:
                noisy = self._corrected(noisy, there, condition, next(draws))
        # The mean of what is left (Tweedie's formula), without its noise.
        return to_intensities(self._clean(noisy, steps[-1], condition).clamp(-1, 1), self.low, self.high)

    def _clean(self, noisy: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        if self.prediction == "velocity":
            part, rest, size = self._parts(time, noisy.ndim)
            return part * noisy / size - rest * self.predicted(noisy, time, condition)
        alpha, sigma = self.level(time, noisy.ndim)
        return (noisy - sigma * self.noise_in(noisy, time, condition)) / alpha

    def _corrected(self, noisy: Tensor, time: Tensor, condition: Tensor | None, noise: Tensor) -> Tensor:
        """One step of Langevin dynamics at one time."""
        alpha, sigma = self.level(time, noisy.ndim)
        score = -self.noise_in(noisy, time, condition) / sigma
        lengths = [
            each.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, *[1] * (noisy.ndim - 1)) for each in (noise, score)
        ]
        step = 2 * alpha**2 * (self.signal_to_noise * lengths[0] / lengths[1]) ** 2
        moved: Tensor = noisy + step * score + (2 * step).sqrt() * noise
        return moved
