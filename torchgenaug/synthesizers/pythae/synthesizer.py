"""`PythaeSynthesizer`: any trained model of pythae, or one per class, as a pure function of seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.contracts import Stored
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.checks import (
    check_finite,
    check_seeds,
    checked_dtype,
    checked_labels,
    checked_value_range,
)
from torchgenaug.synthesizers.parts.fingerprints import module_digest, settings_digest
from torchgenaug.synthesizers.pythae.latents import latents_of
from torchgenaug.synthesizers.pythae.models import models_by_class, portable, samplers_by_class
from torchgenaug.types import Batch, FieldSpec

_PROBE_TOLERANCE = 0.05


class PythaeSynthesizer:
    """An autoencoder of pythae and a distribution of its latents, as a synthesizer; or one of them for each class.

    Deterministic, picklable, safe in threads. Latents are drawn here, each from its own seed (pythae's samplers know
    torch's global seed only), then decoded together. The models are copied, set to eval mode, without gradients.

    Without `sampler`, latents come from the prior that the model was trained with: standard normal, VAMP's mixture, the
    sphere of an S-VAE, the ball of a Poincaré VAE, the manifold of an RHVAE that pythae trained. Models without a prior
    (AE, RAE, VQ-VAE) need one: ``sampler=fit_latents(model, images)``, or a fitted sampler of pythae. An RHVAE walks a
    Markov chain per sample, and a VQ-VAE runs its network once per code: both are slow; render them.

    Args:
        model: a trained pythae model or `PythaeNetwork`, or one per class: ``{0: model0, 1: model1}``; the condition
            ``label`` then chooses. Classes without a model are refused.
        sampler: see above; with several models a dict of them, too.
        value_range: intensities of the samples; pythae's [0, 1] is mapped onto it linearly. Values that a decoder puts
            outside [0, 1] are clipped.
        device: where to compute and where samples are made; default: where the (first) model is.
        dtype: dtype of the decoders, default float32. Samples are float32.

    Attributes:
        fields: ``image``: (channels, *spatial) float32 in `value_range`.
        classes: labels that have a model, None with a single model.

    Raises:
        ConfigurationError: not a pythae model, keys that are no labels, models of different image shapes, a sampler
            that does not fit its model.

    References:
        Chadebec, Vincent, Allassonnière (2022). Pythae. NeurIPS datasets and benchmarks.
    """

    family: ClassVar[str] = "pythae"

    def __init__(
        self,
        model: Any,
        *,
        sampler: Any = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        models = models_by_class(model)
        samplers = samplers_by_class(sampler, models)
        self.classes = None if None in models else tuple(sorted(label for label in models if label is not None))
        self.value_range = checked_value_range(value_range)
        self.dtype = checked_dtype(dtype)
        self.trained_on: Mapping[str, Any] | None = None
        first = next(iter(models.values()))
        self.device = torch.device(next(first.parameters()).device if device is None else device)
        self._latents: dict[int | None, Any] = {}
        self._models: dict[int | None, Any] = {}
        for label, given in models.items():
            latents = latents_of(given, samplers[label])
            self._latents[label] = latents.to(self.device).float().eval().requires_grad_(False)
            kept = portable(given).to(device=self.device, dtype=self.dtype).eval()
            self._models[label] = kept.requires_grad_(False)
        shapes = {label: self._probe(label) for label in self._models}
        if len(set(shapes.values())) > 1:
            raise ConfigurationError(
                f"`model` must hold models of one image shape, got {shapes}. A data set has one shape. Train them on "
                "images of the same size."
            )
        self.fields: Mapping[str, FieldSpec] = {
            "image": FieldSpec(next(iter(shapes.values())), value_range=self.value_range)
        }

    @classmethod
    def from_folder(
        cls,
        path: str | Path | Mapping[int, str | Path],
        *,
        decoder: Any = None,
        encoder: Any = None,
        allow_pickle: bool = False,
        sampler: Any = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> PythaeSynthesizer:
        """A synthesizer of the folder, or the folders by class, that ``model.save`` of pythae wrote.

        Args:
            path: the folder, or ``{0: folder0, 1: folder1}``.
            decoder: the decoder's module, if the model has one of its own; its weights are read from the folder. pythae
                keeps such modules as pickles, which are never opened.
            encoder: the same of the encoder; only a VAMP needs it to sample.
            allow_pickle: must be True: pythae's ``model.pt`` is a pickle. It is read with torch's
                ``weights_only=True``, which refuses everything but tensors.
            sampler: see the class.
            value_range: see the class.
            device: default: CPU.
            dtype: see the class.

        Raises:
            SynthesizerLoadError: no such folder, pickles that are not allowed, or weights that do not fit.
        """
        from torchgenaug.synthesizers.pythae.folder import load_pythae_folder

        def load(folder: str | Path) -> Any:
            return load_pythae_folder(folder, decoder=decoder, encoder=encoder, allow_pickle=allow_pickle)

        model = {label: load(folder) for label, folder in path.items()} if isinstance(path, Mapping) else load(path)
        return cls(model, sampler=sampler, value_range=value_range, device=device, dtype=dtype)

    @property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes), but see `classes`; None with a single model."""
        return None if self.classes is None else self.classes[-1] + 1

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over decoders, latents and settings."""
        return settings_digest(
            {
                "family": "pythae",
                "value_range": self.value_range,
                "dtype": str(self.dtype),
                "models": {str(label): module_digest(kept.decoder) for label, kept in self._models.items()},
                "latents": {str(label): module_digest(latents) for label, latents in self._latents.items()},
            }
        )

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One image per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``label``, int64 (batch,), if there is a model per class.

        Raises:
            ConfigurationError: no seeds; labels that are missing, surplus, out of range or of a class without a model.
            BadSampleError: a decoder that returns NaN or Inf.
        """
        check_seeds(seeds)
        labels = checked_labels(conditions, len(seeds), self.num_classes)
        if labels is None:
            return {"image": self._images(None, seeds)}
        images = torch.empty((len(seeds), *self.fields["image"].shape), device=self.device)
        wanted = labels.tolist()
        for label in sorted(set(wanted)):
            if label not in self._models:
                raise ConfigurationError(
                    f"`conditions['label']` must be one of {self.classes}, got {label}: no model was given for it. "
                    "Leave the class out with ClassLabels(..., weights=[...]) of 0."
                )
            rows = [row for row, other in enumerate(wanted) if other == label]
            images[rows] = self._images(label, [seeds[row] for row in rows])
        return {"image": images}

    def stored(self) -> Stored:
        """What `save_synthesizer` writes. Models with networks of their own must be a `PythaeNetwork` for it."""
        settings = {
            "classes": None if self.classes is None else list(self.classes),
            "value_range": list(self.value_range),
            "dtype": str(self.dtype).removeprefix("torch."),
        }
        networks = {f"model{_suffix(label)}": kept for label, kept in self._models.items()}
        networks |= {f"latents{_suffix(label)}": latents for label, latents in self._latents.items()}
        return Stored(settings, networks)

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> PythaeSynthesizer:
        """The synthesizer that `stored` described."""
        arguments = stored.arguments(device, dtype)
        classes = arguments.pop("classes")
        labels: list[int | None] = [None] if classes is None else list(classes)
        models = {label: stored.networks[f"model{_suffix(label)}"] for label in labels}
        samplers = {label: stored.networks[f"latents{_suffix(label)}"] for label in labels}
        return cls(
            models[None] if classes is None else models,
            sampler=samplers[None] if classes is None else samplers,
            **arguments,
        )

    def _images(self, label: int | None, seeds: Sequence[int]) -> Tensor:
        with torch.no_grad():
            images: Tensor = self._models[label].decode(self._latents[label](seeds).to(self.dtype)).float()
        check_finite(images, seeds)
        low, high = self.value_range
        # Clipped again: rounding must not leave the range.
        return images.clamp_(0, 1).mul_(high - low).add_(low).clamp_(low, high).contiguous()

    @torch.no_grad()
    def _probe(self, label: int | None) -> tuple[int, ...]:
        """The shape of one image; latents are plain noise here, because a chain would take its time."""
        shape = tuple(self._latents[label].shape)
        latents = seeding.normal([0, 1], shape, device=self.device).to(self.dtype)
        where = "" if label is None else f" of class {label}"
        try:
            both, second = self._models[label].decode(latents), self._models[label].decode(latents[1:])
        except Exception as error:
            raise ConfigurationError(
                f"`model`{where} must decode the latents of its sampler, of shape {shape}, got an error: {error!r}. "
                "Is the sampler that of another model?"
            ) from error
        if not isinstance(both, Tensor) or not both.is_floating_point() or both.ndim < 3 or len(both) != 2:
            raise ConfigurationError(
                f"`model`{where} must decode latents to images (batch, channels, *spatial), got "
                f"{tuple(both.shape) if isinstance(both, Tensor) else type(both).__name__} for a batch of 2."
            )
        scale, gap = float(both.abs().max()), float((both[1:] - second).abs().max())
        if math.isfinite(scale) and gap > _PROBE_TOLERANCE * scale:
            raise ConfigurationError(
                f"`model`{where} must decode each latent alone, got outputs that differ by {gap:.3g} between batches. "
                "Its decoder draws random numbers or uses statistics of the batch."
            )
        return tuple(both.shape[1:])

    def __repr__(self) -> str:
        latents = next(iter(self._latents.values()))
        classes = "" if self.classes is None else f", classes={list(self.classes)}"
        name = getattr(next(iter(self._models.values())), "name", "model")
        return f"PythaeSynthesizer({name}, {type(latents).__name__}, {self.fields['image'].shape}{classes})"


def _suffix(label: int | None) -> str:
    return "" if label is None else f"_{label}"
