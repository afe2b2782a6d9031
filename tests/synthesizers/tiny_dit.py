"""A tiny diffusion transformer whose weights all matter."""

from __future__ import annotations

from typing import Any

import tiny_nets
from torch import nn


def transformer(classes: int = 3, channels: int = 2, *, variances: bool = False, **config: Any) -> nn.Module:
    from diffusers import DiTTransformer2DModel

    settings: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 4,
        "in_channels": channels,
        "out_channels": channels * (2 if variances else 1),
        "num_layers": 2,
        "norm_num_groups": 1,
        "sample_size": 4,
        "patch_size": 2,
        "num_embeds_ada_norm": classes,
    }
    return tiny_nets.seeded(lambda: DiTTransformer2DModel(**settings | config))
