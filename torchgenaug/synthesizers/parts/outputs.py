"""Converts the output of a diffusion model, [-1, 1] and class scores, to the fields of a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from torchgenaug.synthesizers.parts.checks import check_finite
from torchgenaug.types import Batch, FieldSpec

OVERSHOOT = 0.25
"""How far samples may leave `value_range` without ``clip``, on each side, as a fraction of its width.

Diffusion models overshoot by a little where the data touch the limits. What goes further is a sign of a bad model or of
too few steps, and `SyntheticSequence` refuses it.
"""


def image_fields(
    shape: Sequence[int], value_range: tuple[float, float], *, label_channels: int, clip: bool
) -> Mapping[str, FieldSpec]:
    """``image``, and ``mask`` with `label_channels`; `shape` is (channels, *spatial) of the model's samples."""
    channels, *spatial = shape
    low, high = value_range
    margin = 0.0 if clip else OVERSHOOT * (high - low)
    fields = {"image": FieldSpec((channels - label_channels, *spatial), value_range=(low - margin, high + margin))}
    if label_channels:
        scores = (0, label_channels - 1)
        fields["mask"] = FieldSpec((1, *spatial), torch.int64, kind="label_map", value_range=scores)
    return fields


def to_image_fields(
    samples: Tensor,
    seeds: Sequence[int],
    value_range: tuple[float, float],
    *,
    label_channels: int,
    clip: bool,
    in_place: bool = False,
) -> Batch:
    """Maps [-1, 1] to `value_range`, and the last channels to their argmax.

    Args:
        samples: (batch, channels, *spatial) float32.
        seeds: (batch,) of the samples, for messages.
        value_range: intensities that -1 and 1 stand for.
        label_channels: how many of the last channels are class scores.
        clip: whether images are clamped to `value_range`.
        in_place: whether `samples` may be overwritten. Memory for another batch would have to be fetched from the
            system at each call, which takes longer than the arithmetic.

    Raises:
        BadSampleError: NaN or Inf that `clip` or the argmax of the mask would hide.
    """
    if clip or label_channels:
        check_finite(samples, seeds)
    low, high = value_range
    channels = samples.shape[1] - label_channels
    scores = samples[:, channels:].argmax(1, keepdim=True) if label_channels else None
    image = samples[:, :channels]
    scale = (high - low) / 2
    image = (image.mul_(scale) if in_place else image.mul(scale)).add_((high + low) / 2)
    batch = {"image": (image.clamp_(low, high) if clip else image).contiguous()}
    if scores is not None:
        batch["mask"] = scores
    return batch
