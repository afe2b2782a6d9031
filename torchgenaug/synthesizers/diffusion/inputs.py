"""Conditions of a `UNet2DModel` that are no classes: source images as channels, numbers and vectors as labels.

References:
    Saharia et al. (2022). Palette: image-to-image diffusion models. SIGGRAPH (source images as channels).
    Ho et al. (2022). Cascaded diffusion models for high fidelity image generation. JMLR (labels embedded as timesteps).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.checks import checked_labels
from torchgenaug.synthesizers.parts.image_conditions import checked_source, given, given_image
from torchgenaug.types import Batch, FieldSpec


@dataclass(frozen=True)
class UnetInputs:
    """The conditions of a network that are not a table of classes.

    Attributes:
        source: spec of the image whose channels follow the noisy ones; None for none.
        embedding: ``"timestep"``: a label that is a number, embedded like a timestep; ``"identity"``: a vector that is
            added to the embedding of the timestep; None: a table of classes, or no classes.
        limit: the largest label of ``"timestep"``, plus 1; infinity where the network takes any.
        width: length of the vector.
    """

    source: FieldSpec | None
    embedding: Literal["timestep", "identity"] | None
    limit: float
    width: int

    @cached_property
    def fields(self) -> Mapping[str, FieldSpec]:
        """What the conditions must hold, the table of classes left out."""
        found: dict[str, FieldSpec] = {}
        if self.source is not None:
            found["source"] = self.source
        if self.embedding == "timestep":
            limits = None if math.isinf(self.limit) else (0.0, max(1.0, self.limit - 1))
            found["label"] = FieldSpec((), torch.int64, kind="scalar", value_range=limits)
        if self.embedding == "identity":
            found["embedding"] = FieldSpec((self.width,), kind="scalar")
        return found

    def completed(self, conditions: Batch | None, count: int, num_classes: int | None) -> Batch | None:
        """`conditions`; for None neutral ones, with a warning: labels and vectors of 0, sources of lowest intensity.

        A table of classes has no neutral one: without its label nothing is completed.
        """
        if conditions is not None or not self.fields or (num_classes is not None and self.embedding is None):
            return conditions
        neutral: Batch = {}
        for name, spec in self.fields.items():
            value = spec.value_range[0] if spec.value_range is not None else 0
            neutral[name] = torch.full((count, *spec.shape), value, dtype=spec.dtype)
        warnings.warn(
            f"The model is conditioned on {sorted(neutral)}, and no conditions were given: label 0, a vector of zeros, "
            "or a source image of the lowest intensity stands for them. These samples are a preview, not training "
            "data. Pass conditions={name: tensor}, or `conditions` to the SyntheticSequence, which requires them.",
            stacklevel=3,
        )
        return neutral

    def labels(
        self, conditions: Batch | None, count: int, num_classes: int | None, null_class: int | None
    ) -> Tensor | None:
        """The labels (batch,) int64, or vectors (batch, width) float32; None where the network takes neither.

        Raises:
            ConfigurationError: none, surplus ones, or of another shape, dtype or range.
        """
        if self.embedding != "timestep" or num_classes is not None:
            classes = checked_labels(conditions, count, num_classes, null_class=null_class)
            if self.embedding is None:
                return classes
        if self.embedding == "identity":
            return _checked_vectors(given("embedding", conditions, "vectors", _VECTORS), count, self.width)
        label = given("label", conditions, "a number, embedded as a timestep", _NUMBERS)
        if label.dtype != torch.int64 or tuple(label.shape) != (count,):
            raise ConfigurationError(
                f"`conditions['label']` must be an int64 tensor of shape ({count},), got {label.dtype} "
                f"{tuple(label.shape)}. Convert it with torch.as_tensor(labels, dtype=torch.int64)."
            )
        wrong = (label < 0) | (label >= self.limit)
        if wrong.any():
            raise ConfigurationError(
                f"`conditions['label']` must lie in [0, {self.limit}), got {label[wrong][0].item()} at position "
                f"{int(wrong.nonzero()[0, 0])}. Take the numbers that the model was trained with."
            )
        return label

    def channels(self, conditions: Batch | None, count: int) -> Tensor | None:
        """The source images in [-1, 1], (batch, channels, height, width) float32; None where there are none.

        Raises:
            ConfigurationError: none, or of another shape, dtype or range.
        """
        if self.source is None:
            return None
        image = given_image("source", conditions, count, self.source).float()
        low, high = self.source.value_range or (-1.0, 1.0)
        return image.sub(low).mul_(2 / (high - low)).sub_(1)


_NUMBERS = "Pass conditions={'label': torch.zeros(batch, dtype=torch.int64)} with the numbers of its training."
_VECTORS = "Pass conditions={'embedding': torch.zeros(batch, width)} with what the network of its training returned."


def checked_inputs(
    unet: nn.Module,
    latent_shape: tuple[int, ...],
    *,
    source: FieldSpec | None,
    value_range: tuple[float, float],
    has_vae: bool,
    dtype: torch.dtype,
) -> UnetInputs:
    """What `unet` takes in addition to noise of `latent_shape` and a table of classes.

    Args:
        unet: a checked `UNet2DModel`.
        latent_shape: (channels, height, width) of what it denoises.
        source: as the user states it; None: found from the number of channels, with a warning.
        value_range: of the images, which a source that is not stated shares.
        has_vae: whether the network denoises latents.
        dtype: that it computes in.

    Raises:
        ConfigurationError: a source that does not fit the channels, or embeddings that cannot be computed.
    """
    config: Any = unet.config
    kind = config.class_embed_type
    if kind not in (None, "timestep", "identity"):
        raise ConfigurationError(
            f"`unet.config.class_embed_type` must be None, 'timestep' or 'identity', got {kind!r}. UNet2DModel knows "
            "no other one and would leave the label out. Wrap the sampling of such a network as FunctionSynthesizer."
        )
    times, limit = config.get("time_embedding_type", "positional"), math.inf
    if kind == "timestep":
        if times == "fourier":
            raise ConfigurationError(
                "`unet.config.time_embedding_type` must be 'positional' or 'learned' with "
                "class_embed_type='timestep', got 'fourier', which takes the logarithm: label 0 becomes -infinity. "
                "Wrap the sampling of such a network as FunctionSynthesizer."
            )
        if times == "positional" and dtype != torch.float32:
            raise ConfigurationError(
                f"`dtype` must be torch.float32 with class_embed_type='timestep', got {dtype}: UNet2DModel embeds such "
                "labels in float32 whatever its weights are. Leave dtype out."
            )
        known = [config.num_class_embeds, config.get("num_train_timesteps") if times == "learned" else None]
        limit = min((count for count in known if count is not None), default=math.inf)
    return UnetInputs(
        source=_source(config, latent_shape, source, value_range, has_vae=has_vae),
        embedding=kind,
        limit=limit,
        width=4 * int(config.block_out_channels[0]),
    )


def _source(
    config: Any,
    latent_shape: tuple[int, ...],
    source: FieldSpec | None,
    value_range: tuple[float, float],
    *,
    has_vae: bool,
) -> FieldSpec | None:
    """The spec of the source images; None for a network without further channels."""
    further = int(config.in_channels) - latent_shape[0]
    if further and has_vae:
        raise ConfigurationError(
            f"`unet.config.in_channels` must be {latent_shape[0]} for a latent diffusion model, got "
            f"{config.in_channels}: whether the other {further} are an encoded or a reduced image is not stated "
            "anywhere. Wrap the sampling of such a model as FunctionSynthesizer."
        )
    checked_source(source, latent_shape[1:])
    if source is not None and source.shape[0] != further:
        raise ConfigurationError(
            f"`source` must have {further} channels, the input channels of `unet` ({config.in_channels}) without the "
            f"{latent_shape[0]} noisy ones, got {source}. "
            + (
                "Leave it out."
                if further == 0
                else f"For example FieldSpec({(further, *latent_shape[1:])}, value_range=(0, 1))."
            )
        )
    if source is not None or further == 0:
        return source
    spec = FieldSpec((further, *latent_shape[1:]), value_range=value_range)
    warnings.warn(
        f"`unet` takes {config.in_channels} channels and denoises {latent_shape[0]}: the last {further} are taken as a "
        f"source image in {value_range}, behind the noisy image as in diffusers' own pipelines. If that is right, "
        f"state it: source=FieldSpec({spec.shape}, value_range={value_range}). Where the source comes first (as in "
        "the code of SR3 and Palette), every sample would be wrong: reorder the input channels of unet.conv_in.weight.",
        stacklevel=4,
    )
    return spec


def _checked_vectors(vectors: Tensor, count: int, width: int) -> Tensor:
    if not vectors.is_floating_point() or tuple(vectors.shape) != (count, width) or not vectors.isfinite().all():
        raise ConfigurationError(
            f"`conditions['embedding']` must be finite floating-point vectors of shape ({count}, {width}), got "
            f"{vectors.dtype} {tuple(vectors.shape)}. Take those of the network that the model was trained with."
        )
    return vectors.float()
