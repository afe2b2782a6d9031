"""`PythaeNetwork`: any model of pythae with convolutional networks, built from JSON-ready arguments alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError, missing_extra
from torchgenaug.nets.conv_autoencoder import halvings

try:
    from pythae import models as pythae_models

    from torchgenaug.nets import pythae_parts as parts
except ImportError as error:
    raise missing_extra("A pythae model", package="pythae", extra="vae") from error

MODELS = tuple(
    name
    for name in pythae_models.__all__
    if not name.endswith("Config") and name not in ("AutoModel", "BaseAE") and "Config" not in name
)
"""Names of the models that can be built."""

# Models that pythae trains with several optimizers; the others with one for all parameters.
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "VAEGAN": ("encoder", "decoder", "discriminator"),
    "Adversarial_AE": ("autoencoder", "discriminator"),
    "FactorVAE": ("autoencoder", "discriminator"),
    "PIWAE": ("encoder", "decoder"),
}
GAUSSIAN_MODELS = (
    *("VAE", "BetaVAE", "DisentangledBetaVAE", "BetaTCVAE", "FactorVAE", "INFOVAE_MMD", "IWAE", "MIWAE", "PIWAE"),
    *("CIWAE", "VAMP", "VAE_IAF", "VAE_LinNF", "SVAE", "PoincareVAE", "HVAE", "RHVAE"),
)
"""Models whose loss is -log p(x | z) of a Gaussian, plus what keeps latents in order."""
# Of pythae's own code (SVAE, PoincareVAE); a user can do nothing about them.
_OWN_WARNINGS = ("To copy construct from a tensor", ".*does not define `arg_constraints`")
_FIXED = {"input_dim", "latent_dim", "name"}


class PythaeNetwork(nn.Module):
    """A pythae model with convolutional encoder, decoder, metric and discriminator, 2D or 3D, images of any size.

    pythae's own networks are perceptrons without a notion of space, and a model with other ones is saved as a pickle.
    This one is described by its arguments, so that `build_network` and `save_synthesizer` need none. Copies and pickles
    (an `RHVAE` of pythae itself does neither: its metric is a closure over the first object).

    Args:
        model: one of `MODELS`, such as ``"VAE"``, ``"RHVAE"``, ``"VAEGAN"`` or ``"VQVAE"``.
        input_shape: (channels, *spatial).
        latent_dim: length of a latent; for a VQVAE, that of one code.
        width: channels of the first level; doubled with each halving. A multiple of 4.
        levels: how often the image is halved; default: down to about 4 pixels (VQVAE: twice at most).
        architecture: ``"conv"``, or ``"mlp"`` for pythae's own perceptrons.
        options: further arguments of the model's pythae configuration, such as ``{"beta": 4.0}``.
        observation_std: standard deviation of an image's pixels about the decoder's image, in [0, 1] units, that the
            loss assumes. pythae's own is 1, as wide as the whole range: then latents tell next to nothing, samples are
            blurred, and some models collapse to the mean image. `GAUSSIAN_MODELS` take another.

    Attributes:
        model: the pythae model.
        latent_shape: shape of one latent: (latent_dim,), or (latent_dim, rows, columns) of a VQVAE, whose codes lie in
            a plane (3D: slices below each other).

    Raises:
        ConfigurationError: an unknown model, option or architecture, a shape that is neither 2D nor 3D, or a deviation
            that is not positive or that the model does not have.
        MissingExtraError: pythae is not installed.

    References:
        Chadebec, Vincent, Allassonnière (2022). Pythae: unifying generative autoencoders in Python. NeurIPS datasets
        and benchmarks. https://github.com/clementchadebec/benchmark_VAE

        Rybkin, Daniilidis, Levine (2021). Simple and effective VAE training with calibrated decoders. ICML, equation 3:
        the likelihood with a deviation of its own.
    """

    model: Any

    def __init__(
        self,
        model: str,
        input_shape: Sequence[int],
        latent_dim: int = 10,
        width: int = 16,
        levels: int | None = None,
        architecture: str = "conv",
        options: Mapping[str, Any] | None = None,
        observation_std: float = 1.0,
    ) -> None:
        super().__init__()
        if model not in MODELS:
            raise ConfigurationError(f"`model` must be one of {', '.join(MODELS)}, got {model!r}.")
        shape = tuple(int(size) for size in input_shape)
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise ConfigurationError(f"`input_shape` must be (channels, *spatial), 2D or 3D, got {input_shape!r}.")
        if architecture not in ("conv", "mlp"):
            raise ConfigurationError(f"`architecture` must be 'conv' or 'mlp', got {architecture!r}.")
        if width < 4 or width % 4:
            raise ConfigurationError(f"`width` must be a multiple of 4, got {width!r}. Use 16 or 32.")
        if not observation_std > 0 or (observation_std != 1 and model not in GAUSSIAN_MODELS):
            raise ConfigurationError(
                f"`observation_std` must be positive, and 1 but for {', '.join(GAUSSIAN_MODELS)}, got "
                f"{observation_std!r} for {model}."
            )
        self.name, self.shape, self.width, self.architecture = model, shape, width, architecture
        self.observation_std = float(observation_std)
        self.levels = min(2, len(halvings(shape[1:])) - 1) if levels is None and model == "VQVAE" else levels
        self.latent_shape: tuple[int, ...] = (int(latent_dim),)
        if model == "VQVAE" and architecture == "conv":
            plane = halvings(shape[1:], self.levels)[-1]
            self.latent_shape = (int(latent_dim), *(plane if len(plane) == 2 else (plane[0] * plane[1], plane[2])))
        config = _config(model, shape, int(latent_dim), dict(options or {}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pythae tells which heads the encoder must have: it has them
            self.model = self._build(model, config)
        parts.make_portable(self.model)

    @property
    def decoder(self) -> nn.Module:
        """The part that decides the samples."""
        decoder: nn.Module = self.model.decoder
        return decoder

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of parameters that each have an optimizer and a loss of their own."""
        return _GROUPS.get(self.name, ("autoencoder",))

    def group_parameters(self, group: str) -> Iterator[nn.Parameter]:
        """The parameters of one group; together the groups hold all that are trained."""
        if group == "autoencoder":
            of_others = {id(p) for p in self.group_parameters("discriminator")} if len(self.groups) > 1 else set()
            return (p for p in self.model.parameters() if id(p) not in of_others and p.requires_grad)
        return iter([p for p in getattr(self.model, group).parameters() if p.requires_grad])

    def losses(self, images: Tensor, *, epoch: int = 1, dataset_size: int = 1) -> dict[str, Tensor]:
        """The losses of one batch; the gradients of each are to be taken for its own group of parameters alone.

        Args:
            images: (batch, *input_shape) in [0, 1]; FactorVAE wants at least 2.
            epoch: passes over the data so far: VAMP and DisentangledBetaVAE warm up by it.
            dataset_size: number of training images: BetaTCVAE weighs by it.

        Returns:
            Scalars by the names of `groups`, without those that are to be left as they are (a VAEGAN out of balance).
        """
        output = self(images, epoch=epoch, dataset_size=dataset_size)
        if len(self.groups) == 1:
            loss: Tensor = output["loss"].sum()  # some models return shape (1,)
            if self.name == "RAE_L2":
                # pythae leaves this term to weight decay of a second optimizer; steps in turn learned hardly anything.
                squares = [each.square().sum() for each in self.model.decoder.parameters()]
                loss = loss + 0.5 * self.model.model_config.reg_weight * torch.stack(squares).sum()
            return {self.groups[0]: loss}
        wanted = [group for group in self.groups if output.get(f"update_{group}", True)]
        return {group: output[f"{group}_loss"].sum() for group in wanted}

    def forward(self, images: Tensor, *, epoch: int = 1, dataset_size: int = 1) -> Mapping[str, Any]:
        """The model's output for a batch of images in [0, 1]: ``loss``, ``recon_x``, ``z`` and what the model adds."""
        # A clone: RAE_GP asks for gradients of what it is given.
        with warnings.catch_warnings():
            for message in _OWN_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=UserWarning)
            # All of pythae's sum (recon_x - x)² / 2, which is -log p(x | z) for a deviation of 1; these do it here.
            likelihood = "_log_p_x_given_z" if self.name in {"HVAE", "RHVAE"} else "loss_function"
            if self.observation_std != 1:
                setattr(self.model, likelihood, partial(_scaled, self.model, likelihood, self.observation_std))
            try:
                output: Mapping[str, Any] = self.model({"data": images.clone()}, epoch=epoch, dataset_size=dataset_size)
            finally:
                self.model.__dict__.pop(likelihood, None)
        parts.forget(self.model)
        return output

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents of images in [0, 1]: posterior means, (batch, latent_dim); of a VQVAE (batch, *latent_shape)."""
        embedding: Tensor = self.model.encoder(images).embedding
        return embedding

    def decode(self, latents: Tensor) -> Tensor:
        """Images in [0, 1] of latents (batch, *latent_shape)."""
        images: Tensor = self.model.decoder(latents)["reconstruction"]
        return images.reshape(len(latents), *self.shape)

    def _build(self, model: str, config: Any) -> nn.Module:
        cls = getattr(pythae_models, model)
        if self.architecture == "mlp":
            built: nn.Module = cls(config)
            return built
        if model == "VQVAE":
            encoder: nn.Module = parts.PlaneEncoder(self.shape, self.latent_shape[0], self.width, self.levels)
            decoder: nn.Module = parts.PlaneDecoder(self.shape, self.latent_shape[0], self.width, self.levels)
        else:
            encoder = parts.ConvEncoder(self.shape, self.latent_shape[0], self.width, self.levels)
            if model == "PoincareVAE":
                encoder = parts.BallEncoder(encoder, float(config.curvature))
            decoder = parts.LatentDecoder(self.shape, self.latent_shape[0], self.width, self.levels)
        extra: dict[str, nn.Module] = {}
        if model == "RHVAE":
            extra["metric"] = parts.ConvMetric(self.shape, self.latent_shape[0], self.width, self.levels)
        if model == "VAEGAN":
            extra["discriminator"] = parts.ConvDiscriminator(self.shape, self.width, self.levels)
            if config.reconstruction_layer == -1:
                # pythae's default compares the scores themselves, Larsen et al. (2016) features below them. Half way
                # up: the last features tell images too little apart, and all samples become one.
                config.reconstruction_layer = len(halvings(self.shape[1:], self.levels)) // 2
        made: nn.Module = cls(config, encoder=encoder, decoder=decoder, **extra)
        return made

    def __repr__(self) -> str:
        return f"PythaeNetwork({self.name!r}, {self.shape}, latent {self.latent_shape}, {self.architecture})"


def _scaled(model: Any, likelihood: str, deviation: float, recon_x: Tensor, x: Tensor, *others: Any) -> Any:
    return getattr(type(model), likelihood)(model, recon_x / deviation, x / deviation, *others)


def _config(model: str, shape: tuple[int, ...], latent_dim: int, options: dict[str, Any]) -> Any:
    cls = getattr(pythae_models, f"{model}Config", None) or getattr(pythae_models, f"{model}_Config")
    known = {name for name in cls.__dataclass_fields__ if not name.startswith("uses_default")} - _FIXED
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigurationError(f"`options` of {model} must be among {sorted(known)}, got {unknown}.")
    if model == "HVAE" and options.get("reconstruction_loss") == "bce":
        raise ConfigurationError(
            "`options` of an HVAE must not ask for the reconstruction loss 'bce', for which pythae wants a decoder of "
            "logits. Its images would not be in [0, 1]. Leave it at 'mse'."
        )
    try:
        return cls(input_dim=shape, latent_dim=latent_dim, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigurationError(f"`options` must fit {cls.__name__}, got {options!r}: {error}") from error
