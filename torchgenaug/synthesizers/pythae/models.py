"""The models inside a `PythaeSynthesizer`: what may be given, and what is kept of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.pythae.folder import as_network


class _Decoder(nn.Module):
    """All that is kept of a model with networks that are described nowhere."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = copy.deepcopy(model.decoder)

    def decode(self, latents: Tensor) -> Any:
        """What the decoder makes of latents."""
        return self.decoder(latents)["reconstruction"]


def models_by_class(model: Any) -> dict[int | None, Any]:
    """Label → model; a single model has the label None."""
    models = dict(model) if isinstance(model, Mapping) else {None: model}
    if not models:
        raise ConfigurationError("`model` must hold at least one model, got none.")
    for label, given in models.items():
        if label is not None and (isinstance(label, bool) or not isinstance(label, int) or label < 0):
            raise ConfigurationError(
                f"`model` must map class labels, integers from 0, to models, got the key {label!r}. For example "
                "{0: model0, 1: model1}."
            )
        inner = getattr(given, "model", given)
        if not (isinstance(given, nn.Module) and hasattr(inner, "decoder") and hasattr(inner, "latent_dim")):
            raise ConfigurationError(
                f"`model` must be a model of pythae or a PythaeNetwork, got {type(given).__name__}. Wrap another "
                "network of latents as ModuleSynthesizer."
            )
    return models


def samplers_by_class(sampler: Any, models: Mapping[int | None, Any]) -> dict[int | None, Any]:
    """Label → sampler, or None where the model's own prior is meant."""
    if None in models or sampler is None:
        return dict.fromkeys(models, sampler)
    if not isinstance(sampler, Mapping) or set(sampler) != set(models):
        got = sorted(sampler) if isinstance(sampler, Mapping) else type(sampler).__name__
        raise ConfigurationError(
            f"`sampler` must map the same classes as `model`, {sorted(models)}, got {got}."  # type: ignore[type-var]
        )
    return dict(sampler)


def portable(model: Any) -> Any:
    """A copy of the model that can be described, or else its decoder alone."""
    if hasattr(model, "decode") and hasattr(model, "model"):
        return copy.deepcopy(model)
    return as_network(model) or _Decoder(model)
