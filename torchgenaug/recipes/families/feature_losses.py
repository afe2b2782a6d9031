"""Perceptual and style losses: distances between features of a network in place of distances between pixels.

Armanious et al. (2020), "MedGAN: Medical image translation using GANs", section 3.2 (perceptual loss from the critic's
own layers) and 3.3 (style); the style is that of Gatys, Ecker, Bethge (2016), "Image style transfer using convolutional
neural networks", equations 3 and 4. Features are the critic's, or those of a network that the user gives: nothing is
fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.import_name import call_by_name
from torchgenaug.recipes.settings import Setting

CRITIC = "critic"
_EXPECTED = "critic or package.module:factory of a network that returns features"

SETTINGS: Mapping[str, Setting] = {
    "perceptual": Setting(0.0, "weight of the distance between features (MedGAN, Armanious 2020)", low=0),
    "style": Setting(0.0, "weight of the distance between the features' correlations (Gatys 2016)", low=0),
    "features": Setting(CRITIC, f"where these come from: {_EXPECTED}"),
}


class FeatureLosses:
    """The weighted losses of generated images, by name; none where both weights are 0.

    Args:
        settings: those of `SETTINGS`.
        shape: (channels, *spatial) of an image.

    Raises:
        ConfigurationError: `features` names no network, or one that fails on such images.
    """

    def __init__(self, settings: Mapping[str, Any], shape: Sequence[int]) -> None:
        self.weights = {name: float(settings[name]) for name in ("perceptual", "style")}
        name = str(settings["features"])
        if name != CRITIC and not any(self.weights.values()):
            raise ConfigurationError(
                f"`features` must come with a weight, got {name!r} with perceptual=0 and style=0. Nothing would "
                "use it. Add --set perceptual=10"
            )
        self.network = None if name == CRITIC else _given(name, shape)

    def __call__(
        self, real: Tensor, fake: Tensor, critic_real: Callable[[], Sequence[Tensor]], critic_fake: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The losses of one batch.

        Args:
            real: images (batch, channels, *spatial) in [-1, 1].
            fake: those that were generated for the same conditions.
            critic_real: computes the critic's features of `real`; called only where they are needed.
            critic_fake: the critic's features of `fake`.
        """
        if not any(self.weights.values()):
            return {}
        network = None if self.network is None else self.network.to(real.device)
        with torch.no_grad():
            wanted = critic_real() if network is None else _features(network, real)
        seen = critic_fake if network is None else _features(network, fake)
        pairs = list(zip(seen, wanted, strict=True))
        found = {"perceptual": mean_distance(pairs), "style": mean_distance((gram(a), gram(b)) for a, b in pairs)}
        return {name: weight * found[name] for name, weight in self.weights.items() if weight}


def mean_distance(pairs: Any) -> Tensor:
    """Mean over pairs of tensors of their mean absolute difference."""
    return torch.stack([functional.l1_loss(one, other) for one, other in pairs]).mean()


def gram(features: Tensor) -> Tensor:
    """Correlations of channels (batch, channels, channels), by place: Gatys (2016), equation 3, divided by the size."""
    flat = features.float().flatten(2)
    return flat @ flat.transpose(1, 2) / flat[0].numel()


def _given(name: str, shape: Sequence[int]) -> nn.Module:
    network = call_by_name(name, "`features`", _EXPECTED)
    if not isinstance(network, nn.Module):
        raise ConfigurationError(
            f"`features` must be {_EXPECTED}, got {name!r}, which returns {type(network).__name__}. Let it return a "
            "torch.nn.Module."
        )
    network = network.eval().requires_grad_(False)
    try:
        found = _features(network, torch.zeros((2, *shape)))
    except Exception as error:
        raise ConfigurationError(
            f"`features` must be a network of images {tuple(shape)}, got {name!r}, which fails with {error!r}. Let it "
            "take images in [-1, 1] and return one or more tensors (batch, channels, *spatial)."
        ) from error
    if not found or any(not isinstance(each, Tensor) or each.ndim != len(shape) + 1 for each in found):
        raise ConfigurationError(
            f"`features` must be a network that returns tensors (batch, channels, *spatial), got others from {name!r}. "
            "Return features before they are pooled or flattened."
        )
    return network


def _features(network: nn.Module, images: Tensor) -> list[Tensor]:
    made = network(images)
    return [made] if isinstance(made, Tensor) else list(made)
