"""Where the latents of a pythae model come from: its own prior, or one of pythae's fitted samplers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.blueprints import build_network

_NEED_IMAGES = ("AE", "RAE_L2", "RAE_GP", "VQVAE")  # no prior: their latents are known from data alone


def latents_of(model: Any, sampler: Any) -> nn.Module:
    """The latent distribution of a pythae model, as a module: seeds → latents.

    Args:
        model: a pythae model, or a `PythaeNetwork`.
        sampler: a module of `torchgenaug.nets` such as `fit_latents` returns, a fitted sampler of pythae, or None for
            the model's own prior.

    Raises:
        ConfigurationError: a model that has no prior, or a sampler that was not fitted or is unknown.
    """
    inner = getattr(model, "model", model)
    if sampler is None:
        return _prior(inner)
    if isinstance(sampler, nn.Module) and hasattr(sampler, "shape"):
        return copy.deepcopy(sampler)
    kind = type(sampler).__name__
    if kind not in _SAMPLERS:
        raise ConfigurationError(
            f"`sampler` must be one of pythae's ({', '.join(_SAMPLERS)}) or what fit_latents returns, got {kind}. "
            "Fit one to your training images: sampler=fit_latents(model, images)."
        )
    if kind in _FITTED and not sampler.is_fitted:
        raise ConfigurationError(f"`sampler` must be fitted, got a {kind} that is not. Call sampler.fit(train_data).")
    made: nn.Module = _SAMPLERS[kind](inner, sampler)
    return made


def code_book(model: Any) -> Tensor:
    """The code book of a VQ-VAE: (num_codes, code_dim)."""
    book = model.quantizer.embeddings
    tensor: Tensor = (book.weight if isinstance(book, nn.Embedding) else book).detach()
    return tensor


def _prior(model: Any) -> nn.Module:
    """The prior that the model was trained with."""
    kinds = {base.__name__ for base in type(model).__mro__}
    kind = type(model).__name__
    dim = int(model.latent_dim)
    if "RHVAE" in kinds:
        if len(model.centroids_tens) < 2:
            raise ConfigurationError(
                "`sampler` must be given for this RHVAE, whose metric holds no training images. Its samples would lie "
                "anywhere. Pass sampler=fit_latents(model, images), or train the model with pythae's trainer."
            )
        return manifold(model, model.M_tens, model.centroids_tens)
    if "VAMP" in kinds:
        return _vamp(model, None)
    if "SVAE" in kinds:
        return build_network("torchgenaug:SphereLatents", latent_dim=dim)
    if "PoincareVAE" in kinds:
        return _ball(model, None)
    # A WAE is an AE of pythae's, too, but has a prior.
    if kind in _NEED_IMAGES or (kinds & set(_NEED_IMAGES) and not kinds & {"WAE_MMD"}):
        raise ConfigurationError(
            f"`sampler` must be given for a {kind}, which has no prior of its own. Fit one to your training images: "
            "sampler=fit_latents(model, images); a fitted sampler of pythae will do, too."
        )
    return build_network("torchgenaug:NormalLatents", shape=[dim])


def _normal(model: Any, sampler: Any) -> nn.Module:
    return build_network("torchgenaug:NormalLatents", shape=[int(model.latent_dim)])


def _sphere(model: Any, sampler: Any) -> nn.Module:
    return build_network("torchgenaug:SphereLatents", latent_dim=int(model.latent_dim))


def _ball(model: Any, sampler: Any) -> nn.Module:
    if model._pz_mu.abs().max() > 0:
        raise ConfigurationError("`model` must have its prior at the origin of the ball, as pythae makes it.")
    riemannian = model.prior.__name__ == "RiemannianNormal"
    scale = float(model._pz_logvar.detach().exp())
    return build_network(
        "torchgenaug:BallLatents",
        latent_dim=int(model.latent_dim),
        curvature=float(model.latent_manifold.c),
        scale=min(max(scale, 0.1), 7.0) if riemannian else scale,  # as pythae clamps it
        riemannian=riemannian,
    )


@torch.no_grad()
def _vamp(model: Any, sampler: Any) -> nn.Module:
    """The variational mixture of posteriors: one Gaussian per pseudo-input, all of equal weight.

    pythae's sampler takes the first components only, in order, and squashes the log variances with tanh; this is the
    prior of the paper, and of the loss.

    References:
        Tomczak, Welling (2018). VAE with a VampPrior. AISTATS, equation 9.
    """
    count = int(model.number_components)
    identity = model.idle_input.to(next(model.parameters()))
    posterior = model.encoder(model.pseudo_inputs(identity).reshape(count, *model.model_config.input_dim))
    factors = torch.diag_embed((posterior.log_covariance / 2).exp())
    return mixture(np.full(count, 1 / count), posterior.embedding.cpu().numpy(), factors.cpu().numpy())


def _gaussian_mixture(model: Any, sampler: Any) -> nn.Module:
    return mixture(sampler.gmm.weights_, sampler.gmm.means_, np.linalg.cholesky(sampler.gmm.covariances_))


def mixture(weights: np.ndarray, means: np.ndarray, factors: np.ndarray) -> nn.Module:
    """A `MixtureLatents` with these numbers."""
    latents: Any = build_network("torchgenaug:MixtureLatents", components=len(means), latent_dim=means.shape[1])
    for buffer, values in ((latents.weights, weights), (latents.means, means), (latents.factors, factors)):
        buffer.copy_(torch.as_tensor(np.asarray(values)))
    made: nn.Module = latents
    return made


def _manifold_sampler(model: Any, sampler: Any) -> nn.Module:
    if float(sampler.beta_zero_sqrt) != 1:
        raise ConfigurationError(
            f"`beta_zero` of the RHVAESampler must be 1, got {float(sampler.beta_zero_sqrt) ** 2:g}: tempered moves do "
            "not keep the density. Leave it at its default."
        )
    settings = {"steps": int(sampler.mcmc_steps_nbr), "leapfrog_steps": int(sampler.n_lf)}
    return manifold(model, model.M_tens, model.centroids_tens, **settings, step_size=float(sampler.eps_lf))


def manifold(model: Any, matrices: Tensor, centroids: Tensor, **settings: Any) -> nn.Module:
    """A `ManifoldLatents` of an RHVAE's temperature and regularization."""
    latents: Any = build_network(
        "torchgenaug:ManifoldLatents",
        centroids=len(centroids),
        latent_dim=centroids.shape[1],
        temperature=round(float(model.temperature.detach()), 6),
        regularization=round(float(model.lbd.detach()), 9),
        **settings,
    )
    latents.matrices.copy_(matrices.detach())
    latents.centroids.copy_(centroids.detach())
    made: nn.Module = latents
    return made


def _flow(model: Any, sampler: Any) -> nn.Module:
    flow = sampler.maf_model if type(sampler).__name__ == "MAFSampler" else sampler.iaf_model
    latents: Any = build_network("torchgenaug:FlowLatents", config=_json_config(flow))
    latents.flow.load_state_dict(flow.state_dict())
    made: nn.Module = latents
    return made


def _second_stage(model: Any, sampler: Any) -> nn.Module:
    decoder = sampler.second_vae.decoder
    latents = build_network(
        "torchgenaug:SecondStageLatents",
        latent_dim=int(model.latent_dim),
        width=decoder.layers[0][0].out_features,
        depth=len(decoder.layers),
    )
    latents.load_state_dict(decoder.state_dict())
    return latents


def _pixel_cnn(model: Any, sampler: Any) -> nn.Module:
    book, config = code_book(model), _json_config(sampler.pixelcnn_model)
    latents: Any = build_network(
        "torchgenaug:CodeLatents",
        plane=config["input_dim"][-2:],
        num_codes=len(book),
        code_dim=book.shape[1],
        flat=bool(sampler.needs_reshape),
        pythae=config,
    )
    latents.book.copy_(book)
    latents.network.model.load_state_dict(sampler.pixelcnn_model.state_dict())
    made: nn.Module = latents
    return made


def _json_config(model: Any) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in model.model_config.to_dict().items()
    }


_SAMPLERS = {
    "NormalSampler": _normal,
    "GaussianMixtureSampler": _gaussian_mixture,
    "HypersphereUniformSampler": _sphere,
    "PoincareDiskSampler": _ball,
    "VAMPSampler": _vamp,
    "RHVAESampler": _manifold_sampler,
    "MAFSampler": _flow,
    "IAFSampler": _flow,
    "TwoStageVAESampler": _second_stage,
    "PixelCNNSampler": _pixel_cnn,
}
_FITTED = {"GaussianMixtureSampler", "MAFSampler", "IAFSampler", "TwoStageVAESampler", "PixelCNNSampler"}
