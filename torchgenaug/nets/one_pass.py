"""`OnePassNetwork`: a GAN's generator or a VAE's decoder of MONAI, from standard normal latents to final images.

References:
    Goodfellow et al. (2014). Generative adversarial nets. NeurIPS.
    Kingma, Welling (2014). Auto-encoding variational Bayes. ICLR.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError, missing_extra

NETWORKS = ("Generator", "VarAutoEncoder")
"""Classes of ``monai.networks.nets`` that turn one vector of noise into an image."""


class OnePassNetwork(nn.Module):
    """Standard normal latents (batch, *latent_shape) → images (batch, channels, *spatial).

    Args:
        network: ``"Generator"``, or ``"VarAutoEncoder"``, of which the decoder is called.
        arguments: of its constructor.
        latents: the distribution it was trained with: ``"normal"``, or ``"uniform"`` in [0, 1): each standard normal
            number z becomes Phi(z), its cumulative probability.
        activation: what follows the network: ``"sigmoid"``; None: nothing.

    Attributes:
        latent_shape: shape of one latent.
        output_range: (0, 1) behind a sigmoid; None: open.

    Raises:
        ConfigurationError: another network, distribution or activation.
        MissingExtraError: MONAI is not installed.
    """

    def __init__(
        self,
        *,
        network: Literal["Generator", "VarAutoEncoder"],
        arguments: Mapping[str, Any],
        latents: Literal["normal", "uniform"] = "normal",
        activation: Literal["sigmoid"] | None = None,
    ) -> None:
        super().__init__()
        choices: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
            ("network", network, NETWORKS),
            ("latents", latents, ("normal", "uniform")),
            ("activation", activation, (None, "sigmoid")),
        )
        for name, value, known in choices:
            if value not in known:
                raise ConfigurationError(f"`{name}` must be one of {known}, got {value!r}. Choose one of them.")
        try:
            from monai.networks import nets
        except ImportError as error:
            raise missing_extra("OnePassNetwork", package="monai", extra="monai") from error
        self.uniform, self.activation = latents == "uniform", activation
        net: Any = getattr(nets, network)(**arguments)
        self.network = net
        self.decodes = network == "VarAutoEncoder"
        self.latent_shape = (int(net.latent_size),) if self.decodes else tuple(int(size) for size in net.latent_shape)
        bounded = activation == "sigmoid" or (self.decodes and net.use_sigmoid)
        self.output_range = (0.0, 1.0) if bounded else None

    def forward(self, latents: Tensor) -> Tensor:
        """Images of latents."""
        if self.uniform:
            latents = torch.special.ndtr(latents.float()).to(latents.dtype)
        net: Any = self.network
        images: Tensor = net.decode_forward(latents, net.use_sigmoid) if self.decodes else net(latents)
        return images.sigmoid() if self.activation == "sigmoid" else images
