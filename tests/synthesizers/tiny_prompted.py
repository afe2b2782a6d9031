"""Tiny networks on prompts whose weights all matter."""

from __future__ import annotations

from typing import Any

import tiny_nets
import torch
from torch import nn

DIM, TOKENS = 8, 3


def unet(channels: int = 4, *, out_channels: int = 4, **config: Any) -> nn.Module:
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": 4,
        "in_channels": channels,
        "out_channels": out_channels,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": DIM,
        "attention_head_dim": 4,
    }
    return tiny_nets.seeded(lambda: UNet2DConditionModel(**settings | config))


def vae(image_channels: int = 1, latent_channels: int = 4, **config: Any) -> nn.Module:
    from diffusers import AutoencoderKL

    return tiny_nets.seeded(
        lambda: AutoencoderKL(
            in_channels=image_channels,
            out_channels=image_channels,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=latent_channels,
            norm_num_groups=4,
            **config,
        )
    )


def controlnet(channels: int = 3, *, latent_channels: int = 4, **config: Any) -> nn.Module:
    from diffusers import ControlNetModel

    settings: dict[str, Any] = {
        "in_channels": latent_channels,
        "conditioning_channels": channels,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "cross_attention_dim": DIM,
        "attention_head_dim": 4,
        "conditioning_embedding_out_channels": (4, 8),
    }
    net: Any = tiny_nets.seeded(lambda: ControlNetModel(**settings | config))
    # The embedding of the control image, and the layers behind, start at zero: what they say must be heard.
    for module in (net.controlnet_cond_embedding, net.controlnet_down_blocks, net.controlnet_mid_block):
        for parameter in module.parameters():
            parameter.data *= 5
    control: nn.Module = net
    return control


def embeddings(count: int, tokens: int = TOKENS) -> torch.Tensor:
    return torch.randn((count, tokens, DIM), generator=torch.Generator().manual_seed(3))


NEGATIVE = torch.randn((TOKENS, DIM), generator=torch.Generator().manual_seed(4))
