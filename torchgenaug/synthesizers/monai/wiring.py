"""Which network of a diffusion model of MONAI takes which condition: found from the numbers of its channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.monai import conditions as conditions_of
from torchgenaug.synthesizers.monai.networks import context_size, input_channels, label_channels_of
from torchgenaug.synthesizers.parts.image_conditions import checked_source, given_image, given_mask, one_hot
from torchgenaug.types import Batch, FieldSpec


class ConditionInputs(NamedTuple):
    """What the networks get apart from noisy samples and time; None where they take no such thing.

    Attributes:
        labels: (batch,) int64 class indices.
        maps: (batch, channels, *latent size): concatenated to the noisy samples.
        control: (batch, channels, *control size): for the ControlNet.
        segmentation: (batch, classes, *size) one-hot: for SPADE layers.
        context: (batch, 1, covariates): for cross-attention.
    """

    labels: Tensor | None = None
    maps: Tensor | None = None
    control: Tensor | None = None
    segmentation: Tensor | None = None
    context: Tensor | None = None

    def doubled(self, null_class: int) -> ConditionInputs:
        """Twice the batch, the second half without its class."""
        twice = ConditionInputs(*(None if value is None else torch.cat([value, value]) for value in self))
        if self.labels is None:
            return twice
        return twice._replace(labels=torch.cat([self.labels, torch.full_like(self.labels, null_class)]))


@dataclass(frozen=True, slots=True)
class Wiring:
    """The conditions of a model, and where they go.

    Attributes:
        mask_classes: classes of the condition ``mask``, None without it.
        source: spec of the condition ``source``, None without it.
        covariates: name → range of scalar conditions, in the order in which the network knows them.
        size: spatial size of the images.
        latent: (channels, *spatial) of what is denoised.
        concatenated: channels of the mask or source in the network's input, 0 for none.
        constant: whether the covariates are constant channels of the input.
        attended: whether the covariates are read by cross-attention.
        control: (channels, *spatial) that the ControlNet wants, None without one.
        segmented: whether SPADE layers read the mask.
        network_range: what the networks take for darkest and brightest.
    """

    mask_classes: int | None
    source: FieldSpec | None
    covariates: Mapping[str, tuple[float, float]]
    size: tuple[int, ...]
    latent: tuple[int, ...]
    concatenated: int
    constant: bool
    attended: bool
    control: tuple[int, ...] | None
    segmented: bool
    network_range: tuple[float, float]

    def inputs(
        self,
        conditions: Batch | None,
        count: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
        encode: Callable[[Tensor], Tensor] | None,
    ) -> ConditionInputs:
        """The conditions of `count` samples in the forms that the networks take; `labels` are left to the caller.

        Args:
            conditions: what `synthesize` was given.
            count: number of samples.
            device: of the networks.
            dtype: of the networks.
            encode: images in `network_range` → latents of the diffusion model; None in pixel space.

        Raises:
            ConfigurationError: a condition that is missing, or does not fit.
        """
        maps: list[Tensor] = []
        control = segmentation = context = None
        if self.mask_classes is not None:
            mask = given_mask(conditions, count, self.size, self.mask_classes).to(device)
            hot = one_hot(mask, self.mask_classes)
            if self.concatenated:
                image = hot if self.concatenated == self.mask_classes else mask.float()
                maps.append(conditions_of.reduced(image, self.latent[1:]))
            if self.control is not None:
                control = hot if self.control[0] == self.mask_classes else mask.float()
            segmentation = hot if self.segmented else None
        if self.source is not None and self.source.value_range is not None:
            given = given_image("source", conditions, count, self.source).to(device)
            image = conditions_of.in_network_range(given, self.source.value_range, self.network_range)
            if self.concatenated:
                maps.append(image if encode is None else encode(image))
            control = image if self.control is not None else None
        if self.covariates:
            numbers = conditions_of.given_covariates(conditions, count, self.covariates).to(device)
            if self.constant:
                shape = (*numbers.shape, *(1,) * len(self.size))
                maps.append(numbers.reshape(shape).expand(*numbers.shape, *self.latent[1:]))
            context = numbers[:, None] if self.attended else None
        if control is not None and self.control is not None and control.shape[2:] != self.control[1:]:
            # Nearest neighbour: how MONAI's ControlNetLatentDiffusionInferer trains.
            control = functional.interpolate(control, self.control[1:])
        ready = (torch.cat(maps, 1) if maps else None, control, segmentation, context)
        return ConditionInputs(None, *(None if value is None else value.to(dtype) for value in ready))


def infer_wiring(
    unet: Any,
    autoencoder: nn.Module | None,
    controlnet: Any,
    *,
    latent: tuple[int, ...],
    size: tuple[int, ...],
    mask_classes: int | None,
    source: FieldSpec | None,
    covariates: Mapping[str, tuple[float, float]] | None,
    network_range: tuple[float, float],
) -> Wiring:
    """Infers from channel counts which network takes which condition.

    Raises:
        ConfigurationError: a condition that no network takes, one that a network wants and nobody gives, or numbers of
            channels that do not add up.
    """
    conditions_of.checked_mask_classes(mask_classes)
    checked_source(source, size)
    numbers = conditions_of.checked_covariates(covariates)
    if mask_classes is not None and source is not None:
        raise ConfigurationError(
            "`source` must be None with `mask_classes`, got both. A model is conditioned on one image. Give the mask "
            "as further channels of the source."
        )
    segmented = _check_spade(unet, autoencoder, mask_classes)
    control = None if controlnet is None else _control_shape(controlnet, latent, mask_classes, source)
    attended = _check_context(unet, numbers)
    if mask_classes is not None:
        channels: tuple[int, ...] = (mask_classes, 1)
    elif source is not None:
        channels = (source.shape[0] if autoencoder is None else latent[0],)
        if autoencoder is not None and control is None and source.shape[0] != input_channels(autoencoder):
            raise ConfigurationError(
                f"`source` must have {input_channels(autoencoder)} channels to be encoded by `autoencoder`, got "
                f"{source.shape[0]}. Its latents are what is concatenated to those of the image."
            )
    else:
        channels = ()
    image_ways = channels if channels and control is None and not segmented else (0, *channels)
    number_ways = (len(numbers),) if numbers and not attended else (0, len(numbers))
    extra = unet.in_channels - latent[0]
    ways = [(image, count) for image in image_ways for count in number_ways if image + count == extra]
    if not ways:
        wanted = sorted({latent[0] + image + count for image in image_ways for count in number_ways})
        raise ConfigurationError(
            f"`unet.in_channels` must be {' or '.join(map(str, wanted))}: {latent[0]} of the noisy sample, and those "
            f"of the conditions that are concatenated ({_listed(mask_classes, source, numbers)}); got "
            f"{unet.in_channels}. Give the conditions that the network was trained with: `mask_classes`, `source`, "
            "`covariates`."
        )
    concatenated, constant = ways[0]
    return Wiring(
        mask_classes=mask_classes,
        source=source,
        covariates=numbers,
        size=size,
        latent=latent,
        concatenated=concatenated,
        constant=bool(constant),
        attended=attended,
        control=control,
        segmented=segmented,
        network_range=network_range,
    )


def _check_spade(unet: nn.Module, autoencoder: nn.Module | None, mask_classes: int | None) -> bool:
    segmented = False
    for role, network in (("unet", unet), ("autoencoder", autoencoder)):
        classes = None if network is None else label_channels_of(network)
        if classes is None:
            continue
        segmented = True
        if classes != mask_classes:
            raise ConfigurationError(
                f"`mask_classes` must be {classes}, as the SPADE layers of `{role}` have it (label_nc), got "
                f"{mask_classes}. Its masks would be read as others."
            )
    return segmented


def _control_shape(
    controlnet: Any, latent: tuple[int, ...], mask_classes: int | None, source: FieldSpec | None
) -> tuple[int, ...]:
    embedding = controlnet.controlnet_cond_embedding
    channels = embedding.conv_in.conv.in_channels
    if mask_classes is None and source is None:
        raise ConfigurationError(
            "`mask_classes` or `source` must be given with `controlnet`, got neither. It says what the control image "
            "is: mask_classes=4, or source=FieldSpec((1, 64, 64), value_range=(0, 1))."
        )
    possible = (mask_classes, 1) if mask_classes is not None else (source.shape[0] if source else 0,)
    if channels not in possible:
        raise ConfigurationError(
            f"`controlnet` must take a control image of {' or '.join(map(str, possible))} channels, got one for "
            f"{channels} (conditioning_embedding_in_channels). A mask comes one-hot, or as its class numbers in one "
            "channel."
        )
    # Every second convolution of the embedding halves the resolution.
    factor = 2 ** (len(embedding.blocks) // 2)
    return (channels, *(length * factor for length in latent[1:]))


def _check_context(unet: nn.Module, covariates: Mapping[str, Any]) -> bool:
    wanted = context_size(unet)
    if wanted is None:
        return False
    if wanted != len(covariates):
        raise ConfigurationError(
            f"`covariates` must name {wanted} scalar conditions for cross_attention_dim={wanted}, got "
            f"{list(covariates)}. They are one context vector, each scaled to [0, 1] by its range, in this order: "
            "{'age': (0, 100), 'sex': (0, 1)}."
        )
    return True


def _listed(mask_classes: int | None, source: FieldSpec | None, covariates: Mapping[str, Any]) -> str:
    parts = [] if mask_classes is None else [f"mask of {mask_classes} classes, one-hot or as 1 channel"]
    parts += [] if source is None else ["source"]
    parts += [f"{len(covariates)} covariates"] if covariates else []
    return ", ".join(parts) or "none"
