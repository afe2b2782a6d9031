"""Latents that a fitted network of pythae maps from normal noise: autoregressive flows, and the second stage VAE."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError, missing_extra
from torchgenaug.nets.latents import noise

_FLOWS = {"MAFConfig": "MAF", "IAFConfig": "IAF", "PixelCNNConfig": "PixelCNN"}


def pythae_flow(config: Mapping[str, Any]) -> nn.Module:
    """A fresh MAF, IAF or PixelCNN of pythae from its configuration, a dict with its ``name``.

    Raises:
        ConfigurationError: another configuration, or one that does not fit.
        MissingExtraError: pythae is not installed.
    """
    try:
        from pythae.models import normalizing_flows
    except ImportError as error:
        raise missing_extra("A flow of latents", package="pythae", extra="vae") from error
    name = config.get("name")
    if name not in _FLOWS:
        raise ConfigurationError(f"`config` must be one of {', '.join(_FLOWS)}, got {name!r}.")
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    arguments.pop("name")
    try:
        settings = getattr(normalizing_flows, str(name))(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"`config` must fit {name}, got {dict(config)!r}: {error}") from error
    flow: nn.Module = getattr(normalizing_flows, _FLOWS[str(name)])(settings)
    return flow


class FlowLatents(nn.Module):
    """Latents of a masked or inverse autoregressive flow (MAF, IAF), fitted to encoded images.

    Args:
        config: pythae's configuration of the flow as a dict, with its ``name``.

    References:
        Papamakarios, Pavlakou, Murray (2017). Masked autoregressive flow for density estimation. NeurIPS.
        Kingma, Salimans, Jozefowicz et al. (2016). Improved variational inference with inverse autoregressive flow.
        NeurIPS.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.flow = pythae_flow(config)
        self.shape = tuple(int(size) for size in config["input_dim"])

    @torch.no_grad()
    def forward(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), latent_dim) float32."""
        weight = next(self.flow.parameters())
        latents: Tensor = self.flow.inverse(noise(seeds, self.shape, weight).to(weight.dtype)).out  # type: ignore[operator]
        return latents.float()


class SecondStageLatents(nn.Module):
    """Latents decoded by a second VAE, which was trained on the latents of the first.

    Args:
        latent_dim: length of a latent, of both stages.
        width: units of a hidden layer.
        depth: hidden layers.

    References:
        Dai, Wipf (2019). Diagnosing and enhancing VAE models. ICLR, section 4.
    """

    def __init__(self, latent_dim: int, width: int = 1024, depth: int = 2) -> None:
        super().__init__()
        self.shape = (int(latent_dim),)
        # Names and order of pythae's SecondDecoder, whose weights are loaded into this.
        self.gamma_z = nn.Parameter(torch.ones(1, 1))
        sizes = [int(latent_dim)] + [int(width)] * depth
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(inside, outside), nn.ReLU()) for inside, outside in itertools.pairwise(sizes))
        )
        self.reconstruction = nn.Linear(sizes[-1], int(latent_dim))

    @torch.no_grad()
    def forward(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), latent_dim) float32."""
        first = noise(seeds, self.shape, self.gamma_z).to(self.gamma_z.dtype)
        second = seeding.normal(seeding.derive(list(seeds), seeding.STEP_NOISE), self.shape, device=self.gamma_z.device)
        latents: Tensor = self.reconstruction(self.layers(first)) + self.gamma_z * second.to(self.gamma_z.dtype)
        return latents.float()
