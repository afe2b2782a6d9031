"""What recipes share whose networks are conditioned on a class, a mask or a source image and sampled as modules."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families.adversarial import with_ranges
from torchgenaug.recipes.families.ddpm import checked_levels, condition_channels, condition_maps, image_range
from torchgenaug.recipes.options import Options
from torchgenaug.synthesizers import ModuleSynthesizer
from torchgenaug.types import Batch


def unet_arguments(
    data: TrainingData, options: Options, *, more_channels: int = 0, sliced: bool = False
) -> dict[str, Any]:
    """Arguments of a `DiffusionModelUNet` like that of ``ddpm``, JSON-ready.

    Args:
        data: what it is trained on.
        options: condition and width.
        more_channels: next to those of the image and its condition.
        sliced: for slices of volumes, across their last axis.

    Raises:
        ConfigurationError: sizes that cannot be halved often enough.
    """
    channels, *spatial = data.image_shape
    spatial, slices = (spatial[:2], spatial[2:]) if sliced else (spatial, [])
    levels, width = checked_levels(spatial, slices), options.width or 16
    groups = math.gcd(width, 8)
    return {
        "spatial_dims": len(spatial),
        "in_channels": channels + condition_channels(data, options) + more_channels,
        "out_channels": channels,
        "num_res_blocks": 1,
        "channels": [width * (level + 1) for level in range(levels)],
        "attention_levels": [False] * (levels - 1) + [True],
        "norm_num_groups": groups,
        "num_head_channels": groups,
        "num_class_embeds": data.num_classes if options.condition == "label" else None,
    }


def condition_of(batch: Batch, data: TrainingData, options: Options) -> Tensor | None:
    """Labels, one-hot masks or source images in [-1, 1] of a batch; None without a condition."""
    if options.condition == "label":
        return batch["label"]
    maps = condition_maps(batch, data, options)
    return maps[0] if maps else None


def module_synthesizer(network: nn.Module, data: TrainingData, options: Options) -> ModuleSynthesizer:
    """A synthesizer of a network of latents and condition, with ``latent_shape``, in the data's intensities."""
    low, high = image_range(data)
    ranges: dict[str, list[float]] = {"value_range": [low, high]}
    if options.condition == "source":
        ranges["source_range"] = list(data.fields["source"].value_range or (0.0, 1.0))
    image = options.condition if options.condition in ("mask", "source") else None
    classes = {"label": data.num_classes, "mask": data.num_mask_classes}.get(str(options.condition))
    made: Any = with_ranges(network, **ranges)
    return ModuleSynthesizer(
        made,
        latent_shape=made.latent_shape,
        num_classes=classes,
        condition=image,
        condition_spec=None if image is None else data.fields[image],
        value_range=(low, high),
    )
