"""`SliceSampler`: a volume from a 2D diffusion model, slice after slice, each conditioned on the one before.

The slices of a volume can share a part of their noise (Ge et al., 2023, "Preserve your own correlation: a noise prior
for video diffusion models", equation 4, for frames of a video), and each is given the slice before it, its place, and
whether it is the first. Volokitin et al. (2020), "Modelling the distribution of 3D brain MRI using a 2D slice VAE",
make volumes of slices that are correlated in their latents. Networks predict v (Salimans and Ho, 2022); noise levels
are cos and sin of a quarter turn, and steps are those of DDIM (Song, Meng, Ermon, 2021).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.nets.conditioned_unet import ConditionedUNet
from torchgenaug.nets.intensities import to_intensities

MORE_CHANNELS = 2
"""Channels after a slice and the one before it: its place in the volume, and whether there is one before it."""


class SliceSampler(nn.Module):
    """Standard normal latents (batch, slices + 1, channels, rows, columns) (and a condition) → volumes.

    Args:
        shape: (channels, rows, columns, slices) of a volume.
        unet: arguments of `ConditionedUNet`'s network, 2D.
        steps: denoising steps of a slice.
        shared: variance of the noise that all slices of a volume share, from 0 to 1.
        value_range: the volumes' intensities.
        source_range: those of a source volume, see `ConditionedUNet`.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        unet: Mapping[str, Any],
        steps: int = 10,
        shared: float = 0.5,
        value_range: Sequence[float] = (-1.0, 1.0),
        source_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        self.network = ConditionedUNet(unet, source_range)
        self.slices, self.steps, self.shared = int(shape[-1]), steps, shared
        self.low, self.high = value_range
        self.latent_shape = (self.slices + 1, *shape[:-1])

    def velocity(
        self, noisy: Tensor, time: Tensor, before: Tensor | None, place: Tensor, condition: Tensor | None
    ) -> Tensor:
        """V of noisy slices (batch, channels, rows, columns) at times (batch,) in [0, 1].

        Args:
            noisy: the slices.
            time: the quarter turn from slice to noise.
            before: the slices before them, in [-1, 1]; those at place 0 have none, and theirs is not looked at.
            place: (batch,) int64 numbers of the slices.
            condition: one-hot masks or sources of the slices; or None.
        """
        shape = (-1, 1, 1, 1)
        known = (place > 0).view(shape).to(noisy.dtype)
        given = -torch.ones_like(noisy) if before is None else known * before + known - 1
        maps = [(2 * place.view(shape) / max(1, self.slices - 1) - 1).to(noisy.dtype), known]
        planes = [each.expand(len(noisy), 1, *noisy.shape[2:]) for each in maps]
        made: Tensor = self.network(noisy, time, condition, [given, *planes])
        return made

    def forward(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        """Volumes (batch, *shape) in `value_range`."""
        common, times = latents[:, -1], torch.linspace(1, 0, self.steps + 1).tolist()
        made: list[Tensor] = []
        for number in range(self.slices):
            noisy = math.sqrt(self.shared) * common + math.sqrt(1 - self.shared) * latents[:, number]
            place = torch.full((len(latents),), number, device=latents.device)
            given = None if condition is None else condition[..., number]
            for here, there in itertools.pairwise(times):
                time = torch.full((len(latents),), here, device=latents.device, dtype=latents.dtype)
                velocity = self.velocity(noisy, time, made[-1] if made else None, place, given)
                keep, add = (function(here * math.pi / 2) for function in (math.cos, math.sin))
                clean = (keep * noisy - add * velocity).clamp(-1, 1)
                noise = add * noisy + keep * velocity
                noisy = math.cos(there * math.pi / 2) * clean + math.sin(there * math.pi / 2) * noise
            made.append(noisy.clamp(-1, 1))
        return to_intensities(torch.stack(made, -1), self.low, self.high)
