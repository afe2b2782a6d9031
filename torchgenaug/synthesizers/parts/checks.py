"""Checks of arguments that several synthesizers share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.types import Batch, finite_range

COMPUTE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def checked_value_range(value_range: tuple[float, float]) -> tuple[float, float]:
    """(low, high) as floats; raises `ConfigurationError` unless finite and low < high."""
    checked = finite_range(value_range)
    if checked is None:
        raise ConfigurationError(
            f"`value_range` must be (low, high), finite, low < high, got {value_range!r}. It states the intensities "
            "that the model was trained on, for example (0, 1), or (-1000, 2000) for CT in Hounsfield units."
        )
    return checked


def checked_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """The compute dtype; float32 by default."""
    if dtype is None:
        return torch.float32
    if dtype not in COMPUTE_DTYPES:
        raise ConfigurationError(
            f"`dtype` must be one of {[str(known) for known in COMPUTE_DTYPES]}, got {dtype!r}. Networks compute in "
            "it; the samples are float32 whatever it is."
        )
    return dtype


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises `ConfigurationError` unless there is at least one."""
    if len(seeds) == 0:
        raise ConfigurationError("`seeds` must hold at least one seed, got none.")


def checked_labels(
    conditions: Batch | None, count: int, num_classes: int | None, *, null_class: int | None = None
) -> Tensor | None:
    """The condition ``label`` of `count` samples, or None for an unconditional model.

    Args:
        conditions: what `synthesize` was given.
        count: number of samples.
        num_classes: classes of the model; labels lie in [0, num_classes). None for an unconditional model.
        null_class: the index that stands for "no class", which no condition may hold.

    Returns:
        (count,) int64, on the device it came on.

    Raises:
        ConfigurationError: no ``label`` for a conditional model, a ``label`` for an unconditional one, or one of
            another shape, dtype or range.
    """
    given = None if conditions is None else conditions.get("label")
    if num_classes is None:
        if given is None:
            return None
        raise ConfigurationError(
            "`conditions` must not hold 'label' for a model without classes. The samples would carry labels that the "
            "model never saw. Drop the conditions, or use a class-conditional network."
        )
    if given is None:
        raise ConfigurationError(
            f"`conditions` must hold 'label', got {None if conditions is None else sorted(conditions)}: this model is "
            f"conditioned on {num_classes} classes. Pass conditions=ClassLabels({num_classes}) to the "
            "SyntheticSequence."
        )
    if not isinstance(given, Tensor) or given.dtype != torch.int64 or tuple(given.shape) != (count,):
        what = f"{given.dtype} {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise ConfigurationError(
            f"`conditions['label']` must be an int64 tensor of shape ({count},), got {what}. "
            "Convert it with torch.as_tensor(labels, dtype=torch.int64)."
        )
    wrong = (given < 0) | (given >= num_classes)
    if null_class is not None:
        wrong |= given == null_class
    if wrong.any():
        null = "" if null_class is None else f" and not be the null class {null_class}"
        raise ConfigurationError(
            f"`conditions['label']` must lie in [0, {num_classes}){null}, got {given[wrong][0].item()} at position "
            f"{int(wrong.nonzero()[0, 0])}. Use ClassLabels({num_classes}), with weights for classes to leave out."
        )
    return given


def check_label_channels(label_channels: int, channels: int) -> None:
    """Raises `ConfigurationError` unless 0, or at least 2 classes that leave at least one channel to the image."""
    whole = isinstance(label_channels, int) and not isinstance(label_channels, bool)
    if not whole or label_channels < 0 or label_channels == 1:
        raise ConfigurationError(
            f"`label_channels` must be 0 or at least 2, got {label_channels!r}. One score per class, the background "
            "included."
        )
    if label_channels >= channels:
        raise ConfigurationError(
            f"`label_channels` must be less than the {channels} channels of a sample, got {label_channels}. "
            "No channel would remain for the image."
        )


def check_finite(samples: Tensor, seeds: Sequence[int]) -> None:
    """Raises `BadSampleError`, naming the seeds, where `samples` (batch first) hold NaN or Inf.

    Needed before any step that would hide them: argmax gives NaN a class, and clamping gives Inf a value.
    """
    low, high = (extreme.item() for extreme in torch.aminmax(samples))
    if math.isfinite(low) and math.isfinite(high):
        return
    rows = (~samples.flatten(1).isfinite().all(1)).nonzero()[:, 0].tolist()
    bad = [int(seeds[row]) for row in rows]
    raise BadSampleError(
        f"The model's output holds NaN or Inf in {len(bad)} of {len(seeds)} samples: seeds {bad[:8]}. Nothing of this "
        "batch was used. Check the weights, or compute in dtype=torch.float32.",
        seeds=bad,
    )


def in_float32(output: Tensor) -> Tensor:
    """What a network returned, in float32; what overflowed in float16 becomes NaN, which no clipping hides."""
    values = output.float()
    return values + 0 * values if output.dtype == torch.float16 else values


def propagate_nonfinite(images: Tensor, latents: Tensor) -> Tensor:
    """`images`, NaN where the `latents` that they were decoded from were not finite: a VQ codebook would hide it.

    Args:
        images: (batch, channels, *spatial).
        latents: (batch, latent channels, *latent spatial).
    """
    bad = ~latents.flatten(1).isfinite().all(1)
    return torch.where(bad.reshape(-1, *[1] * (images.ndim - 1)), torch.nan, images)


def checked_fingerprint(fingerprint: object, of: str, example: str) -> str:
    """A user's own fingerprint; raises `ConfigurationError` unless it is a text.

    Args:
        fingerprint: what was given.
        of: what it names, for the message.
        example: what it could be, for the message.
    """
    if not isinstance(fingerprint, str) or not fingerprint.strip():
        raise ConfigurationError(
            f"`fingerprint` must be a text that names the {of} and its settings, got {fingerprint!r}. Samples on disk "
            f"are recognised by it. Use, for example, {example}."
        )
    return fingerprint
