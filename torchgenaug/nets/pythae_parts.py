"""The networks inside a pythae model: subclasses of its bases, with our convolutional trunk and decoder."""

# pythae has no types: its bases are Any to mypy.
# mypy: disallow-subclassing-any=False
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder, BaseMetric
from torch import Tensor, nn

from torchgenaug.nets.conv_autoencoder import ConvDecoder, ConvTrunk

_IN_BALL = 0.95  # nearer to the rim, float32 gradients overflow


class ConvEncoder(BaseEncoder):
    """Image → posterior: mean, log variance, and the log concentration of spherical and hyperbolic models."""

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, levels: int | None) -> None:
        super().__init__()
        self.trunk = ConvTrunk(shape, width, levels)
        self.mean = nn.Linear(self.trunk.num_features, latent_dim)
        self.log_variance = nn.Linear(self.trunk.num_features, latent_dim)
        self.log_concentration = nn.Linear(self.trunk.num_features, 1)

    def forward(self, images: Tensor) -> ModelOutput:
        """What every model of pythae but the VQVAE asks for."""
        features = self.trunk(images).flatten(1)
        return ModelOutput(
            embedding=self.mean(features),
            log_covariance=self.log_variance(features),
            log_concentration=self.log_concentration(features),
        )


class BallEncoder(BaseEncoder):
    """An encoder whose means lie in the Poincaré ball: the exponential map at the origin of what it says.

    Mathieu et al. (2019), "Continuous hierarchical representations with Poincaré variational auto-encoders", section
    3.2: exp_0(v) = tanh(√c |v|) v / (√c |v|). pythae takes means as they are; outside the ball its distances are NaN.
    """

    def __init__(self, encoder: nn.Module, curvature: float) -> None:
        super().__init__()
        self.encoder, self.root = encoder, math.sqrt(curvature)

    def forward(self, images: Tensor) -> ModelOutput:
        """As the encoder within, ``embedding`` (batch, latent_dim) of norm below 1 / √curvature."""
        output = self.encoder(images)
        length = self.root * output["embedding"].norm(dim=1, keepdim=True).clamp(min=1e-6)
        output["embedding"] = output["embedding"] * (_IN_BALL * length.tanh() / length)
        return output


class LatentDecoder(BaseDecoder):
    """Latent vector → image in [0, 1]."""

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, levels: int | None) -> None:
        super().__init__()
        self.image = ConvDecoder(shape, width, levels)
        self.first = nn.Linear(latent_dim, self.image.channels * math.prod(self.image.shapes[0]))

    def forward(self, z: Tensor) -> ModelOutput:
        """(batch, latent_dim) → (batch, *shape)."""
        features = self.first(z).reshape(len(z), self.image.channels, *self.image.shapes[0])
        return ModelOutput(reconstruction=self.image(features))


class PlaneEncoder(BaseEncoder):
    """Image → a plane of codes. pythae's quantizer knows 2D codes only: the slices of a volume lie below each other."""

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, levels: int | None) -> None:
        super().__init__()
        self.trunk = ConvTrunk(shape, width, levels)
        conv = nn.Conv2d if len(shape) == 3 else nn.Conv3d
        self.codes = conv(self.trunk.channels, latent_dim, 1)

    def forward(self, images: Tensor) -> ModelOutput:
        """(batch, *shape) → (batch, latent_dim, rows, columns)."""
        codes = self.codes(self.trunk(images))
        return ModelOutput(embedding=codes.flatten(2, 3) if codes.ndim == 5 else codes)


class PlaneDecoder(BaseDecoder):
    """A plane of codes → image in [0, 1]."""

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, levels: int | None) -> None:
        super().__init__()
        self.image = ConvDecoder(shape, width, levels, inside=latent_dim)

    def forward(self, z: Tensor) -> ModelOutput:
        """(batch, latent_dim, rows, columns) → (batch, *shape)."""
        return ModelOutput(reconstruction=self.image(z.reshape(len(z), z.shape[1], *self.image.shapes[0])))


class ConvMetric(BaseMetric):
    """Image → the lower triangular matrix whose square is the image's share in the inverse metric of an RHVAE."""

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, levels: int | None) -> None:
        super().__init__()
        self.trunk = ConvTrunk(shape, width, levels)
        self.latent_dim = latent_dim
        self.diagonal = nn.Linear(self.trunk.num_features, latent_dim)
        self.lower = nn.Linear(self.trunk.num_features, latent_dim * (latent_dim - 1) // 2)

    def forward(self, images: Tensor) -> ModelOutput:
        """(batch, *shape) → ``L``: (batch, latent_dim, latent_dim)."""
        features = self.trunk(images).flatten(1)
        rows, columns = torch.tril_indices(self.latent_dim, self.latent_dim, offset=-1)
        triangular = torch.diag_embed(self.diagonal(features).exp())
        triangular[:, rows, columns] = self.lower(features)
        return ModelOutput(L=triangular)


class ConvDiscriminator(BaseDiscriminator):
    """Image → the probability that it is real, with the features on the way (``embedding_layer_1`` …)."""

    def __init__(self, shape: Sequence[int], width: int, levels: int | None) -> None:
        super().__init__()
        self.trunk = ConvTrunk(shape, width, levels)
        self.score = nn.Sequential(nn.Flatten(), nn.Linear(self.trunk.num_features, 1), nn.Sigmoid())
        self.depth = len(self.trunk.stages) + 1

    def forward(self, images: Tensor, output_layer_levels: Sequence[int] | None = None) -> ModelOutput:
        """``embedding``: (batch, 1) in (0, 1); and the requested layers, counted from 1."""
        wanted = set(output_layer_levels or ())
        output, hidden = ModelOutput(), images
        for level, stage in enumerate([*self.trunk.stages, self.score], start=1):
            hidden = stage(hidden)
            if level in wanted:
                output[f"embedding_layer_{level}"] = hidden
        output["embedding"] = hidden
        return output


class StartMetric:
    """The metric that an RHVAE of pythae starts with, as an object that copies and pickles."""

    def __init__(self, regularization: float, inverse: bool) -> None:
        self.regularization, self.inverse = regularization, inverse

    def __call__(self, z: Tensor) -> Tensor:
        """(batch, dim) → (batch, dim, dim)."""
        strength = torch.exp(-(z**2).sum(1)) + self.regularization
        eye = torch.eye(z.shape[1], device=z.device, dtype=z.dtype)
        return eye * (strength if self.inverse else 1 / strength)[:, None, None]


def tanh_derivative(values: Tensor) -> Tensor:
    """Of a planar flow's activation."""
    return 1 - torch.tanh(values) ** 2


def make_portable(model: nn.Module) -> None:
    """Replaces what neither copies nor pickles: the closures of an RHVAE, the lambdas of planar flows."""
    if hasattr(model, "G_inv"):
        regularization = float(model.model_config.regularization)  # type: ignore[union-attr, arg-type]
        for name, inverse in (("G", False), ("G_inv", True)):
            setattr(model, name, StartMetric(regularization, inverse))
    for part in model.modules():
        if type(part).__name__ == "PlanarFlow":  # a VAE_LinNF builds them with tanh
            part.activation_derivative = tanh_derivative  # type: ignore[assignment]


def forget(model: nn.Module) -> None:
    """Drops what an RHVAE collects during training: its metric is computed from the images at the end."""
    for name in ("M", "centroids"):
        if hasattr(getattr(model, name, None), "clear"):
            getattr(model, name).clear()
