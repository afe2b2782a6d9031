"""Conditions of a Stable Diffusion type of model, checked: prompts, parent image, region to repaint, control image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.image_conditions import given, given_image, one_hot
from torchgenaug.types import Batch, FieldSpec


def given_prompts(conditions: Batch | None, count: int, size: int, tokens: int | None) -> Tensor:
    """``prompt_embeds``: (count, tokens, size), floating point and finite.

    Args:
        conditions: what `synthesize` was given.
        count: number of samples.
        size: length of one token's embedding.
        tokens: how many there must be, None for any number.

    Raises:
        ConfigurationError: none, or of another shape or dtype.
    """
    remedy = "Pass conditions=Prompts(texts, encode_prompts(folder, texts)) to the SyntheticSequence."
    value = given("prompt_embeds", conditions, "prompts", remedy)
    fits = value.ndim == 3 and value.shape[0] == count and value.shape[1] > 0 and value.shape[2] == size
    if not fits or not value.is_floating_point() or tokens not in (None, value.shape[1]):
        raise ConfigurationError(
            f"`conditions['prompt_embeds']` must be floating point of shape ({count}, {tokens or 'tokens'}, {size}), "
            f"got {value.dtype} {tuple(value.shape)}. Encode the prompts with the text encoder of this very model: "
            "encode_prompts(folder, texts)."
        )
    if not value.isfinite().all():
        raise ConfigurationError("`conditions['prompt_embeds']` must be finite, got NaN or Inf. Encode them again.")
    return value


def given_mask(conditions: Batch | None, count: int, size: tuple[int, int]) -> Tensor:
    """The condition ``mask``: (count, 1, *size), 0 where the source stays and 1 where the model paints.

    Raises:
        ConfigurationError: none, of another shape, or with other values than 0 and 1.
    """
    value = given("mask", conditions, "the region to repaint")
    if tuple(value.shape) != (count, 1, *size) or value.is_complex():
        raise ConfigurationError(
            f"`conditions['mask']` must have the shape {(count, 1, *size)}, got {tuple(value.shape)}. Resize the masks "
            "(nearest neighbour)."
        )
    wrong = (value != 0) & (value != 1)
    if wrong.any():
        raise ConfigurationError(
            f"`conditions['mask']` must be binary, 0 or 1, got {value[wrong][0].item()} at position "
            f"{int(wrong.nonzero()[0, 0])}. 1 is what the model paints: mask = (mask == 2).to(torch.int64)."
        )
    return value


def given_control(name: str, conditions: Batch | None, count: int, spec: FieldSpec, channels: int) -> Tensor:
    """The control image as a ControlNet reads it: (count, channels, height, width) float32 in [0, 1].

    A label map of n classes comes one-hot if the network has n channels, else as class number / (n - 1) in each.

    Raises:
        ConfigurationError: none, or of another shape, dtype or range.
    """
    low, high = spec.value_range or (0.0, 1.0)
    if spec.kind != "label_map":
        image = given_image(name, conditions, count, spec).float()
    else:
        image = given(name, conditions, f"masks {spec}")
        fits = tuple(image.shape) == (count, *spec.shape) and not image.is_floating_point()
        if not fits or ((image < low) | (image > high)).any():
            raise ConfigurationError(
                f"`conditions[{name!r}]` must be {spec} for each of {count} samples, got {image.dtype} "
                f"{tuple(image.shape)} with values from {image.min().item():g} to {image.max().item():g}. The model "
                "never saw such masks."
            )
        classes = int(high - low) + 1
        if channels == classes:
            return one_hot(image.to(torch.int64) - int(low), classes)
    return ((image.float() - low) / (high - low)).expand(-1, channels, -1, -1)


def checked_negative(value: Any, size: int, guided: bool) -> Tensor | None:
    """The negative prompt's embedding: (tokens, size) float32 on the CPU, None where there is no guidance.

    Raises:
        ConfigurationError: none with guidance, or of another shape.
    """
    if value is None:
        if guided:
            raise ConfigurationError(
                "`negative_prompt_embeds` must be given with `guidance_scale`, got None. Guidance compares the prompt "
                "with an empty or negative one: negative_prompt_embeds=encode_prompts(folder, [''])[0]."
            )
        return None
    fits = isinstance(value, Tensor) and value.ndim == 2 and value.shape[0] > 0 and value.shape[1] == size
    if not fits or not value.is_floating_point() or not value.isfinite().all():
        got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigurationError(
            f"`negative_prompt_embeds` must be finite, floating point, (tokens, {size}), got {got}. One prompt for all "
            "samples: encode_prompts(folder, [''])[0]."
        )
    embedding: Tensor = value.detach().cpu().float().clone()
    return embedding
