"""Classifier-free guidance: checks of its settings, inputs doubled for it, outputs combined.

References:
    Ho, Salimans (2022). Classifier-free diffusion guidance. arXiv:2207.12598.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError


def checked_guidance(guidance_scale: float | None) -> float | None:
    """The scale as a float; raises `ConfigurationError` unless None or finite and at least 0."""
    if guidance_scale is None:
        return None
    return _checked_scale(
        "guidance_scale", guidance_scale, "1 means no guidance, 4 to 8 is common with classes or prompts."
    )


def checked_control_scale(control_scale: float) -> float:
    """The scale as a float; raises `ConfigurationError` unless finite and at least 0."""
    return _checked_scale("control_scale", control_scale, "1 is what a ControlNet was trained with, 0 leaves it out.")


def _checked_scale(name: str, scale: float, advice: str) -> float:
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not number or not math.isfinite(scale) or scale < 0:
        raise ConfigurationError(f"`{name}` must be finite and at least 0, got {scale!r}. {advice}")
    return float(scale)


def checked_classes(count: int | None, null_class: int | None, guidance_scale: float | None) -> int | None:
    """How many class indices a network knows, the null class included: `count`, None for an unconditional one.

    Raises:
        ConfigurationError: guidance without classes or without a null class, a null class out of range, a negative or
            infinite guidance scale.
    """
    if count is None:
        if guidance_scale is None and null_class is None:
            return None
        given = f"guidance_scale={guidance_scale}" if guidance_scale is not None else f"null_class={null_class}"
        raise ConfigurationError(
            f"`unet` must be class-conditional for {given}, got num_class_embeds=None. "
            "Leave guidance_scale and null_class out."
        )
    whole = isinstance(null_class, int) and not isinstance(null_class, bool)
    if null_class is not None and not (whole and 0 <= null_class < count):
        raise ConfigurationError(
            f"`null_class` must be a class index in [0, {count}), got {null_class!r}. "
            f"It is the index used for dropped labels in training, often the last one: null_class={count - 1}."
        )
    if guidance_scale is not None:
        if not (math.isfinite(guidance_scale) and guidance_scale >= 0):
            raise ConfigurationError(
                f"`guidance_scale` must be finite and at least 0, got {guidance_scale}. 1 means no guidance, 2 is a "
                "mild one."
            )
        if null_class is None:
            raise ConfigurationError(
                f"`null_class` must be given with guidance_scale={guidance_scale}, got None. Guidance compares the "
                f"label with the class that stood for 'any' in training, often the last one: null_class={count - 1}. "
                "A network trained without label dropout cannot be guided: leave guidance_scale out."
            )
    return count


def is_guided(guidance_scale: float | None) -> bool:
    """Whether the scale asks for guidance: neither None nor 1."""
    return guidance_scale is not None and guidance_scale != 1


def twice(values: Tensor) -> Tensor:
    """The batch twice: for the half with the condition, and for that without it."""
    return torch.cat([values, values])


def guided(output: Tensor, guidance_scale: float | None) -> Tensor:
    """What the guided network predicts, ``e_null + s (e - e_null)``: 1 + w of Ho and Salimans (2022), equation 6.

    Args:
        output: (2 batch, ...), the half with the condition first.
        guidance_scale: s.

    Returns:
        (batch, ...).
    """
    resolve_condition, without = output.chunk(2)
    return torch.lerp(without, resolve_condition, float(guidance_scale or 0))


def num_labels(embeddings: int | None, null_class: int | None) -> int | None:
    """How many classes a table of `embeddings` has, without the last one where that stands for "any class"."""
    return None if embeddings is None else embeddings - (null_class == embeddings - 1)
